"""What has been told of each cluster, for the workers of a fleet.

Revision: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known",
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("silent", sa.Text(), nullable=False),
        sa.Column("frozen", sa.Text(), nullable=False),
        sa.Column("in_cluster", sa.Text(), nullable=False),
        sa.Column("pending", sa.String(), nullable=False),
        sa.Column("unresolved", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("cluster", name=op.f("pk_known")),
    )
