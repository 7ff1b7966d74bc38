"""Lines of the audit log can be deleted once they are old; younger ones the database still keeps.

Revision: 0012
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_KEPT_S = 60 * 86400
_WHY = "the audit log is append-only, and keeps each line for 60 days"
_SQLITE = (
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
    f"WHEN OLD.at > (CAST(strftime('%s', 'now') AS INTEGER) - {_KEPT_S}) * 1000000 "
    f"BEGIN SELECT RAISE(ABORT, '{_WHY}'); END"
)
_NO_CHANGE = (
    "CREATE TRIGGER audit_no_change BEFORE UPDATE OR TRUNCATE ON audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
)
_FUNCTION = (
    "CREATE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    f"IF OLD.at > (extract(epoch FROM now()) - {_KEPT_S}) * 1000000 THEN "
    f"RAISE EXCEPTION '{_WHY}'; END IF; RETURN OLD; END $$"
)
_NO_DELETE = (
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
    "FOR EACH ROW EXECUTE FUNCTION audit_is_kept()"
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_no_delete")
        op.execute(_SQLITE)
        return
    op.execute("DROP TRIGGER audit_no_change ON audit")
    for statement in (_NO_CHANGE, _FUNCTION, _NO_DELETE):
        op.execute(statement)
