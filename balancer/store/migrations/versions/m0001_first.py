"""The first schema: leases, journal, history, plans.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not imported: a revision must not change when the tables do.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("ttl_s", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cluster", name=op.f("pk_leases")),
    )
    op.create_table(
        "measurements",
        sa.Column("id", _ID, nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("vm", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("transport", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("expected_s", sa.Float(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("blackout_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
    )
    op.create_index(
        op.f("ix_measurements_cluster_at"), "measurements", ["cluster", "at"], unique=False
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("snapshot_sha256", sa.String(), nullable=False),
        sa.Column("policy_sha256", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
    )
    op.create_index(
        op.f("ix_plans_cluster_created_at"), "plans", ["cluster", "created_at"], unique=False
    )
    op.create_table(
        "runs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(
        op.f("ix_runs_cluster_started_at"), "runs", ["cluster", "started_at"], unique=False
    )
    op.create_table(
        "subjects",
        sa.Column("id", _ID, nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subjects")),
        sa.UniqueConstraint("cluster", "kind", "key", name=op.f("uq_subjects_cluster_kind_key")),
    )
    op.create_table(
        "moves",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run", _ID, nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("migration", sa.String(), nullable=False),
        sa.Column("vm", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("transport", sa.String(), nullable=False),
        sa.Column("clustered", sa.Boolean(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("expected_s", sa.Float(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("blackout_s", sa.Float(), nullable=True),
        sa.Column("code", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_moves_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moves")),
        sa.UniqueConstraint("run", "migration", name=op.f("uq_moves_run_migration")),
    )
    op.create_index(op.f("ix_moves_cluster_state"), "moves", ["cluster", "state"], unique=False)
    op.create_table(
        "samples",
        sa.Column("subject", _ID, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("host", _ID, nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cpu_used_cores", sa.Float(), nullable=True),
        sa.Column("memory_assigned_bytes", sa.BigInteger(), nullable=True),
        sa.Column("memory_demand_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["host"], ["subjects.id"], name=op.f("fk_samples_host")),
        sa.ForeignKeyConstraint(["subject"], ["subjects.id"], name=op.f("fk_samples_subject")),
        sa.PrimaryKeyConstraint("subject", "at", name=op.f("pk_samples")),
    )
    op.create_index(op.f("ix_samples_at"), "samples", ["at"], unique=False)
    op.create_table(
        "settings",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run", _ID, nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("setting", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=False),
        sa.Column("ours", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_settings_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settings")),
        sa.UniqueConstraint("run", "host", "setting", name=op.f("uq_settings_run_host_setting")),
    )
    op.create_index(
        op.f("ix_settings_cluster_state"), "settings", ["cluster", "state"], unique=False
    )
    op.create_table(
        "transitions",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run", _ID, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", _ID, nullable=False),
        sa.Column("before", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("code", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_transitions_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transitions")),
    )
    op.create_index(op.f("ix_transitions_run_id"), "transitions", ["run", "id"], unique=False)
