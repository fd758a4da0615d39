"""Gives the schema, and all that is in it, to trueup_owner. Called by `reconciler.store.store` before the migrations.

On a server of the operator's own, earlier versions let the role of the URL own everything; there this is needed
once. It happens in one transaction, because a function acts with the rights of its owner and has to own its tables at
every moment that anybody can see.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import asyncpg

from kit.errors import Refusal
from reconciler.store.patience import with_locks
from reconciler.store.pool import SCHEMA, connect, translated
from reconciler.store.roles import OWNER_ROLE

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

MADE_MEANWHILE = (asyncpg.DuplicateSchemaError, asyncpg.UniqueViolationError)
"""By another process, at the same moment."""

MAKE_SCHEMA = f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {OWNER_ROLE}"

IS_SCHEMA_NEW = "SELECT to_regnamespace($1) IS NULL"

# The schema last: without it, its former owner could not look up what else it owns.
FOREIGN = """
SELECT format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, $2::text)
FROM pg_class c WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') AND c.relowner <> to_regrole($2)
UNION ALL
SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, $2::text)
FROM pg_proc p WHERE p.pronamespace = to_regnamespace($1) AND p.proowner <> to_regrole($2)
UNION ALL
SELECT format('ALTER SCHEMA %I OWNER TO %I', n.nspname, $2::text)
FROM pg_namespace n WHERE n.nspname = $1 AND n.nspowner <> to_regrole($2)"""

ALLOW = f"GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {OWNER_ROLE}"


async def settle_ownership(database_url: str) -> list[str]:
    """Makes the schema if there is none. Returns the statements that it took. `Refusal` when something belongs to
    somebody whose rights the URL's role does not have."""
    connection = await connect(database_url)
    try:
        with translated("make the schema"), contextlib.suppress(*MADE_MEANWHILE):
            if await connection.fetchval(IS_SCHEMA_NEW, SCHEMA):
                await connection.execute(MAKE_SCHEMA)
        return await with_locks(connection, f"give the schema to {OWNER_ROLE}", lambda: _hand_over(connection))
    finally:
        await connection.close()


async def _hand_over(connection: Connection) -> list[str]:
    await connection.execute("SET LOCAL search_path = ''")  # every name with its schema
    statements = [statement for (statement,) in await connection.fetch(FOREIGN, SCHEMA, OWNER_ROLE)]
    try:
        for statement in [ALLOW, *statements] if statements else []:
            await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        raise Refusal(
            f"give the schema {SCHEMA} to {OWNER_ROLE}",
            str(error),
            fix=f"as its owner, or an administrator: {'; '.join(statements)};",
            code="postgres_owner",
        ) from error
    return statements
