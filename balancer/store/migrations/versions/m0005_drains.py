"""Drains and campaigns.

Revision: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Written out, not imported: a revision must not change when the tables do.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "drains",
        sa.Column("id", _ID, nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("hosts", sa.Text(), nullable=False),
        sa.Column("by", sa.BigInteger(), nullable=True),
        sa.Column("keep_reserve", sa.Boolean(), nullable=False),
        sa.Column("on_failure", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("expected_s", sa.Float(), nullable=False),
        sa.Column("paused", sa.Text(), nullable=False),
        sa.Column("returned_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drains")),
    )
    op.create_index(op.f("ix_drains_cluster_state"), "drains", ["cluster", "state"], unique=False)
    op.create_table(
        "drain_things",
        sa.Column("id", _ID, nullable=False),
        sa.Column("drain", _ID, nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["drain"], ["drains.id"], name=op.f("fk_drain_things_drain")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drain_things")),
    )
    op.create_index(op.f("ix_drain_things_drain"), "drain_things", ["drain"], unique=False)
    op.create_table(
        "drain_steps",
        sa.Column("id", _ID, nullable=False),
        sa.Column("drain", _ID, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["drain"], ["drains.id"], name=op.f("fk_drain_steps_drain")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drain_steps")),
    )
    op.create_index(op.f("ix_drain_steps_drain"), "drain_steps", ["drain"], unique=False)
    op.create_table(
        "campaigns",
        sa.Column("id", _ID, nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
    )
    op.create_index(op.f("ix_campaigns_cluster"), "campaigns", ["cluster"], unique=False)
    op.create_table(
        "campaign_hosts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("campaign", _ID, nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("hook", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign"], ["campaigns.id"], name=op.f("fk_campaign_hosts_campaign")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_hosts")),
        sa.UniqueConstraint("campaign", "host", name=op.f("uq_campaign_hosts_campaign_host")),
    )
