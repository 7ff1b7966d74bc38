"""The tables. Portable types only: the same schema serves SQLite and PostgreSQL.

Instants are whole microseconds since 1970 in UTC: they sort, compare and subtract alike on
every database, and take eight bytes in the tables that grow. Enumerations are their words.
Every change here is a new file in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, stored as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return the stored form; a naive time is a programming error and raises."""
        del dialect
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the moment."""
        del dialect
        return None if value is None else _EPOCH + timedelta(microseconds=value)


# SQLite counts by itself only in columns that are plainly INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# One row a cluster, kept for ever: the fencing number must never go back.
leases = Table(
    "leases",
    metadata,
    Column("cluster", String, primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("holder", String, nullable=False),  # empty: nobody
    Column("ttl_s", Float, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("process", String, nullable=False, server_default=""),  # empty: cannot be told
    Column("tenure", BigInteger, nullable=False, server_default="0"),  # the fence it began with
    Column("serves", Boolean, nullable=False, server_default=false()),  # it takes requests
    # The highest fence that stood in the cluster itself, written there by way of this store.
    Column("written", BigInteger, nullable=False, server_default="0"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("plan", String, nullable=False),
    Column("holder", String, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("end", String),
    Column("by_hand", Boolean, nullable=False, server_default=false()),  # a person's own moves
    Index(None, "cluster", "started_at"),
)

moves = Table(
    "moves",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run", _Id, ForeignKey("runs.id"), nullable=False),
    Column("cluster", String, nullable=False),
    Column("migration", String, nullable=False),
    Column("vm", String, nullable=False),
    Column("name", String, nullable=False),
    Column("source", String, nullable=False),
    Column("target", String, nullable=False),
    Column("transport", String, nullable=False),
    Column("clustered", Boolean, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("expected_s", Float, nullable=False),
    Column("state", String, nullable=False),
    Column("since", Instant, nullable=False),  # in this state
    Column("started_at", Instant),  # of the last attempt
    Column("percent", Integer, nullable=False),
    Column("blackout_s", Float),
    Column("code", BigInteger),
    Column("why", String),  # a word, where something did not happen
    Column("reason", Text, nullable=False),
    Column("heartbeat", String),  # the guest's before the last attempt; a word, if it has one
    UniqueConstraint("run", "migration"),
    Index(None, "cluster", "state"),
)

settings = Table(
    "settings",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run", _Id, ForeignKey("runs.id"), nullable=False),
    Column("cluster", String, nullable=False),
    Column("host", String, nullable=False),
    Column("setting", String, nullable=False),
    Column("before", String, nullable=False),
    Column("ours", String, nullable=False),
    Column("state", String, nullable=False),
    Column("since", Instant, nullable=False),
    Column("reason", Text, nullable=False),
    UniqueConstraint("run", "host", "setting"),
    Index(None, "cluster", "state"),
)

# Append-only: what happened, in order, to runs, moves and settings alike.
transitions = Table(
    "transitions",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run", _Id, ForeignKey("runs.id"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("kind", String, nullable=False),  # run, move or setting
    Column("subject", _Id, nullable=False),  # the id in that table
    Column("before", String, nullable=False),
    Column("state", String, nullable=False),
    Column("code", BigInteger),
    Column("why", String),  # a word, where something did not happen
    Column("reason", Text, nullable=False),
    Index(None, "run", "id"),
)

# Samples are many (every VM, every minute), so what they are of is named once, here.
subjects = Table(
    "subjects",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("kind", String, nullable=False),  # host or vm
    Column("key", String, nullable=False),  # host name or VM id
    UniqueConstraint("cluster", "kind", "key"),
)

samples = Table(
    "samples",
    metadata,
    Column("subject", _Id, ForeignKey("subjects.id"), primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("host", _Id, ForeignKey("subjects.id")),  # where a VM was
    Column("state", String, nullable=False),
    Column("cpu_used_cores", Float),
    Column("memory_assigned_bytes", BigInteger),
    Column("memory_demand_bytes", BigInteger),
    Index(None, "at"),
)

measurements = Table(
    "measurements",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("vm", String, nullable=False),
    Column("source", String, nullable=False),
    Column("target", String, nullable=False),
    Column("transport", String, nullable=False),
    Column("at", Instant, nullable=False),  # when it ended
    Column("duration_s", Float, nullable=False),
    Column("expected_s", Float, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("blackout_s", Float),
    Index(None, "cluster", "at"),
)

plans = Table(
    "plans",
    metadata,
    Column("id", String, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("status", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("snapshot_sha256", String, nullable=False),
    Column("policy_sha256", String, nullable=False),
    Column("document", Text, nullable=False),
    Index(None, "cluster", "created_at"),
)

# What people ask of whoever holds the cluster's lease, served in order.
requests = Table(
    "requests",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("verb", String, nullable=False),
    Column("arguments", Text, nullable=False),  # a JSON object
    Column("asked_by", String, nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("state", String, nullable=False),
    Column("since", Instant, nullable=False),  # in this state
    Column("cancel_asked", String, nullable=False),  # empty, finish or cancel
    Column("plan", String, nullable=False),
    Column("exit_code", Integer),
    Column("text", Text, nullable=False),
    Index(None, "cluster", "state", "id"),
)

# Nothing moves in a frozen cluster; the row with the empty name freezes all of them.
freezes = Table(
    "freezes",
    metadata,
    Column("cluster", String, primary_key=True),
    Column("by", String, nullable=False),
    Column("at", Instant, nullable=False),
    Column("reason", Text, nullable=False),
)

# What failed and is set aside for a while; empty words mean "any".
asides = Table(
    "asides",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("vm", String, nullable=False),
    Column("name", String, nullable=False),
    Column("source", String, nullable=False),
    Column("target", String, nullable=False),
    Column("since", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("code", BigInteger),
    Column("reason", Text, nullable=False),
    UniqueConstraint("cluster", "vm", "source", "target"),
)

# Clusters whose last run failed; the next that goes well deletes the row.
breakers = Table(
    "breakers",
    metadata,
    Column("cluster", String, primary_key=True),
    Column("failed_runs", Integer, nullable=False),
    Column("since", Instant, nullable=False),
    Column("open_until", Instant),
    Column("reason", Text, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    Column("plan", String, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("verdict", String, nullable=False),  # approved or rejected
    Column("by", String, nullable=False),
    Column("at", Instant, nullable=False),
    Column("reason", Text, nullable=False),
)

# Runs whose hook before has begun, and whose hook after has not ended.
brackets = Table(
    "brackets",
    metadata,
    Column("cluster", String, primary_key=True),
    Column("plan", String, nullable=False),
    Column("variables", Text, nullable=False),  # a JSON object
    Column("at", Instant, nullable=False),
)

# How each cluster stood when it was last looked at, as its visitors have told.
known = Table(
    "known",
    metadata,
    Column("cluster", String, primary_key=True),
    Column("silent", Text, nullable=False),  # a JSON list: hosts that do not answer
    Column("frozen", Text, nullable=False),
    Column("in_cluster", Text, nullable=False),  # the freeze that the cluster itself keeps
    Column("pending", String, nullable=False),  # the plan that waits for an answer
    Column("unresolved", Integer, nullable=False),
)

# When something was last done, so that a restart does not do it again at once.
marks = Table(
    "marks",
    metadata,
    Column("cluster", String, primary_key=True),  # empty: of the store as a whole
    Column("name", String, primary_key=True),
    Column("at", Instant, nullable=False),
)

# Append-only, and kept so by triggers: who did what, why, and what came of it.
audit = Table(
    "audit",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("cluster", String, nullable=False),  # empty: the service itself
    Column("who", String, nullable=False),
    Column("what", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("why", Text, nullable=False),
    Column("outcome", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("cycle", String, nullable=False),
    Column("plan", String, nullable=False),
    Column("migration", String, nullable=False),
    Index(None, "cluster", "at"),
)

# Hosts that are emptied, what they held when that began, and every step of it.
drains = Table(
    "drains",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("hosts", Text, nullable=False),  # a JSON list
    Column("by", Instant),
    Column("keep_reserve", Boolean, nullable=False),
    Column("on_failure", String, nullable=False),
    Column("asked_by", String, nullable=False),
    Column("state", String, nullable=False),
    Column("since", Instant, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("expected_s", Float, nullable=False),
    Column("paused", Text, nullable=False),  # a JSON list: the hosts that we paused ourselves
    Column("returned_at", Instant),
    Column("reason", Text, nullable=False),
    Index(None, "cluster", "state"),
)

drain_things = Table(
    "drain_things",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("drain", _Id, ForeignKey("drains.id"), nullable=False),
    Column("host", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("key", String, nullable=False),
    Column("name", String, nullable=False),
    Index(None, "drain"),
)

drain_steps = Table(
    "drain_steps",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("drain", _Id, ForeignKey("drains.id"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("subject", String, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "drain"),
)

# A walk over a whole cluster, batch by batch.
campaigns = Table(
    "campaigns",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("cluster", String, nullable=False),
    Column("state", String, nullable=False),
    Column("options", Text, nullable=False),  # a JSON object
    Column("asked_by", String, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("since", Instant, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "cluster"),
)

campaign_hosts = Table(
    "campaign_hosts",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("campaign", _Id, ForeignKey("campaigns.id"), nullable=False),
    Column("host", String, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("step", String, nullable=False),
    Column("hook", Integer, nullable=False),
    Column("since", Instant, nullable=False),
    Column("reason", Text, nullable=False),
    UniqueConstraint("campaign", "host"),
)
