"""Run by alembic: applies the revisions in `versions` over the connection we hand it."""

from __future__ import annotations

from alembic import context

from balancer.store.tables import metadata

# The caller has begun the transaction, so a revision is applied whole or not at all.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
