"""Who may do what in the database: an owner that nobody logs in as, who changes the schema, and an application that
cannot rewrite history.

    trueup_owner     owns schema, tables and functions; no log-in
    trueup_migrate   may become the owner (SET ROLE), and has no right beside that
    trueup_app       all that a running controller does; it is trueup_append, trueup_project and trueup_read in one
    trueup_append    adds events through functions, takes claims and leases
    trueup_project   keeps the views
    trueup_read      reads: an auditor, a report

Called by `reconciler.store.store` before the migrations. Even the owner's UPDATE of an event is stopped by a trigger
(sql/0004); that it takes the trigger away is what the hash chain and the exported heads show. What an operator's own
server needs is in docs/runbooks/own-postgres.md, and a test runs the SQL of that page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from kit.errors import Refusal
from reconciler.store.limits import POSTGRES_MAJOR_MIN
from reconciler.store.pool import connect, translated

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

OWNER_ROLE = "trueup_owner"
MIGRATE_ROLE = "trueup_migrate"
APP_ROLE = "trueup_app"
READ_ROLE = "trueup_read"
GROUP_ROLES = ("trueup_append", "trueup_project", READ_ROLE)
"""Parts of what the application may do, for a log-in that shall do only that: append, keep the views, read."""

DATABASE = "trueup"

_LOCK_ROLES = "SELECT pg_advisory_lock(hashtextextended('trueup roles', 0))"

# With SET ROLE. $2: 'SET' says so exactly, and is known from Postgres 16 on.
MAY_BECOME = "SELECT pg_has_role(current_user, oid, $2) FROM pg_roles WHERE rolname = $1"

# A role without a right of its own: whoever is a member of it becomes the owner by SET ROLE, never unawares.
MAKE_MIGRATE = f"CREATE ROLE {MIGRATE_ROLE} NOINHERIT"


@dataclass(frozen=True, slots=True)
class Access:
    """`app_role` is what a session of `app_url` switches to; empty when it logs in as the role itself. `migrate_url`
    may become the owner; empty when this process cannot: then somebody else runs the migrations."""

    migrate_url: str = field(repr=False)
    app_url: str = field(repr=False)
    app_role: str = ""


async def prepare_embedded(superuser_url: str, database: str = DATABASE) -> None:
    """Makes the roles and the database, as the superuser of our own server. Idempotent."""
    connection = await connect(superuser_url)
    try:
        with translated("make the roles of the embedded Postgres"):
            await connection.execute(_LOCK_ROLES)
            if not await _exists(connection, OWNER_ROLE):
                await connection.execute(f"CREATE ROLE {OWNER_ROLE}")
            await connection.execute(f"ALTER ROLE {OWNER_ROLE} NOLOGIN")  # earlier versions logged in as it
            if not await _exists(connection, MIGRATE_ROLE):
                await connection.execute(f"{MAKE_MIGRATE} LOGIN; GRANT {OWNER_ROLE} TO {MIGRATE_ROLE}")
            if not await _exists(connection, APP_ROLE):
                await connection.execute(f"CREATE ROLE {APP_ROLE} LOGIN")
            await _make_group_roles(connection)
            if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database) is None:
                await connection.execute(f'CREATE DATABASE "{database}" OWNER {OWNER_ROLE}')
    finally:
        await connection.close()


async def prepare_external(database_url: str) -> bool:
    """Checks the server's version and makes the roles in a database that somebody else runs. Idempotent. True: the
    URL's role may become the owner, so it can migrate."""
    connection = await connect(database_url)
    try:
        major = connection.get_server_version().major
        check_version(major)
        with translated("make the roles of trueup"):
            await _make_roles(connection)
            if await may_become(connection, OWNER_ROLE):
                return True
            if not await may_become(connection, APP_ROLE):
                raise _role_missing("the role of the URL is a member neither of trueup_migrate nor of trueup_app")
            return False
    finally:
        await connection.close()


async def connect_to_read(database_url: str) -> asyncpg.Connection[Any]:
    """A connection with the least rights of those that the URL's role has and that reading takes."""
    connection = await connect(database_url)
    try:
        with translated("choose a role to read with"):
            for role in (READ_ROLE, APP_ROLE):
                if await may_become(connection, role):
                    await connection.execute(f"SET ROLE {role}")
                    return connection
    except BaseException:
        await connection.close()
        raise
    return connection  # if it has no right either, the first question says so


async def may_become(connection: Connection, role: str) -> bool:
    how = "SET" if connection.get_server_version().major >= 16 else "MEMBER"
    return bool(await connection.fetchval(MAY_BECOME, role, how))


def check_version(major: int) -> None:
    if major < POSTGRES_MAJOR_MIN:
        raise Refusal(
            "open the store",
            f"the server is Postgres {major}",
            fix=f"use Postgres {POSTGRES_MAJOR_MIN} or newer",
            code="postgres_version",
        )


async def _make_roles(connection: Connection) -> None:
    """What is missing, if the URL's role may make it; it becomes a member, so that it can migrate and serve."""
    try:
        if not await _exists(connection, OWNER_ROLE):
            await connection.execute(f"CREATE ROLE {OWNER_ROLE} NOLOGIN; GRANT {OWNER_ROLE} TO CURRENT_USER")
        if not await _exists(connection, MIGRATE_ROLE):
            await connection.execute(f"{MAKE_MIGRATE} NOLOGIN; GRANT {OWNER_ROLE} TO {MIGRATE_ROLE}")
        if not await _exists(connection, APP_ROLE):
            await connection.execute(f"CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO CURRENT_USER")
        await _make_group_roles(connection)
    except asyncpg.InsufficientPrivilegeError as error:
        raise _role_missing(str(error)) from error
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        await _make_roles(connection)  # another process made it at the same moment


async def _make_group_roles(connection: Connection) -> None:
    for role in GROUP_ROLES:
        if not await _exists(connection, role):
            await connection.execute(f"CREATE ROLE {role} NOLOGIN")


async def _exists(connection: Connection, role: str) -> bool:
    return await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role) is not None


def _role_missing(why: str) -> Refusal:
    return Refusal(
        f"use the roles {', '.join((OWNER_ROLE, MIGRATE_ROLE, APP_ROLE, *GROUP_ROLES))}",
        why,
        fix="let an administrator run the SQL of docs/runbooks/own-postgres.md",
        code="postgres_role_missing",
    )
