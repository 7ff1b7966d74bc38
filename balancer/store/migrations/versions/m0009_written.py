"""The highest number of a lease that its cluster has taken note of.

Revision: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("written", sa.BigInteger, nullable=False, server_default="0")
    op.add_column("leases", column)
    op.execute("UPDATE leases SET written = fence")  # what is there now is ours
