"""Leases say with which number they began, because the number may grow while they are held.

Revision: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "leases", sa.Column("tenure", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.execute("UPDATE leases SET tenure = fence")
