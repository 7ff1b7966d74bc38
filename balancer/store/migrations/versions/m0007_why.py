"""Why a migration did not happen, as a word.

Revision: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("moves", "transitions"):
        op.add_column(table, sa.Column("why", sa.String))
