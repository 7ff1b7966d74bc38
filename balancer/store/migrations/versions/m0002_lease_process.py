"""Leases say which process holds them, so that a dead one's can be taken over at once.

Revision: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("leases", sa.Column("process", sa.String(), nullable=False, server_default=""))
