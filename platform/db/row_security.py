"""Owns PostgreSQL's row-level security: a role without rights of its own, to which sessions of one tenant change for
each transaction, and the policies that show this role the rows of that tenant only. Used by the migrations."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

ROLE = "loraplex_tenant"
VARIABLE = "loraplex.tenant"
ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
_TENANT = f"nullif(current_setting('{VARIABLE}', true), '')::uuid"
# How a table tells whose a row is.
BY_COLUMN = f"tenant_id = {_TENANT}"
BY_ID = f"id = {_TENANT}"
BY_MEMBERSHIP = f"id IN (SELECT user_id FROM membership WHERE {BY_COLUMN})"  # noqa: S608  # constants
BY_ADAPTER = f"adapter_id IS NULL OR adapter_id IN (SELECT id FROM adapter WHERE {BY_COLUMN})"  # noqa: S608  # as above


def make_role(connection: Connection) -> bool:
    """Make the role, or see that it can be used; roles belong to the server, so another database may have made it.

    Returns:
        Whether sessions can change to it. Where the owner of the database may not make roles they cannot, and an
        administrator has to: `CREATE ROLE loraplex_tenant NOLOGIN; GRANT loraplex_tenant TO <owner>`.
    """
    exists = text("SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = :role")
    known = connection.scalar(exists, {"role": ROLE})
    if known is not None:
        return bool(known)
    may = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    if not connection.scalar(text(may)):
        return False
    # Two databases may be migrated at once; the second finds it there.
    connection.execute(
        text(
            f"DO $$ BEGIN CREATE ROLE {ROLE} NOLOGIN; "
            f"EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
    )
    connection.execute(text(f"GRANT {ROLE} TO CURRENT_USER"))
    return True


def protect(
    connection: Connection, table: str, condition: str = BY_COLUMN, *, rights: str = ALL_RIGHTS
) -> None:
    """Let the role see and write the rows of a table for which `condition` holds, as far as `rights` go."""
    name = f'"{table}"'
    for statement in (
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY of_tenant ON {name} TO {ROLE} USING ({condition}) WITH CHECK ({condition})",
        f"GRANT {rights} ON {name} TO {ROLE}",
    ):
        connection.execute(text(statement))


def show(connection: Connection, table: str, condition: str) -> None:
    """Let the role see, and not write, the rows of a table for which `condition` holds."""
    name = f'"{table}"'
    for statement in (
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY of_tenant ON {name} FOR SELECT TO {ROLE} USING ({condition})",
        f"GRANT SELECT ON {name} TO {ROLE}",
    ):
        connection.execute(text(statement))


def expose(connection: Connection, tables: Sequence[str]) -> None:
    """Take the protection from tables again."""
    known = text("SELECT count(*) FROM pg_roles WHERE rolname = :role")
    if not connection.scalar(known, {"role": ROLE}):
        return
    for table in tables:
        name = f'"{table}"'
        connection.execute(text(f"DROP POLICY IF EXISTS of_tenant ON {name}"))
        connection.execute(text(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"))
        connection.execute(text(f"REVOKE ALL ON {name} FROM {ROLE}"))
