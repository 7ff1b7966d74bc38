"""What a later start has to know of a run that was cut short: guests' heartbeats, and who asked.

Revision: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("moves", sa.Column("heartbeat", sa.String))
    op.add_column(
        "runs", sa.Column("by_hand", sa.Boolean, nullable=False, server_default=sa.false())
    )
