"""Who may do what in the database: an owner that changes the schema, and the application that cannot rewrite history.

Called by `reconciler.store.store` before the migrations. The application's role, trueup_app, may add events and read
them; only the owner could do more, and even the owner's UPDATE is stopped by a trigger (sql/0004).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from kit.errors import Refusal
from reconciler.store.limits import POSTGRES_MAJOR_MIN
from reconciler.store.pool import connect, translated

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

OWNER_ROLE = "trueup_owner"
APP_ROLE = "trueup_app"
GROUP_ROLES = ("trueup_append", "trueup_project", "trueup_read")
"""Parts of what the application may do, for a log-in that shall do only that: append, keep the views, read."""

DATABASE = "trueup"

_LOCK_ROLES = "SELECT pg_advisory_lock(hashtextextended('trueup roles', 0))"


MAY_SWITCH = "SELECT 1 WHERE pg_has_role(current_user, $1, 'MEMBER')"


@dataclass(frozen=True, slots=True)
class Access:
    """`app_role` is what a session of `app_url` switches to; empty when it logs in as the role itself."""

    owner_url: str = field(repr=False)
    app_url: str = field(repr=False)
    app_role: str = ""


async def prepare_embedded(superuser_url: str, database: str = DATABASE) -> None:
    """Makes both log-in roles and the database, as the superuser of our own server. Idempotent."""
    connection = await connect(superuser_url)
    try:
        with translated("make the roles of the embedded Postgres"):
            await connection.execute(_LOCK_ROLES)
            for role in (OWNER_ROLE, APP_ROLE):
                if not await _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                    await connection.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
            await _make_group_roles(connection)
            if not await _exists(connection, "SELECT 1 FROM pg_database WHERE datname = $1", database):
                await connection.execute(f'CREATE DATABASE "{database}" OWNER {OWNER_ROLE}')
    finally:
        await connection.close()


async def prepare_external(database_url: str, *, switches_role: bool) -> None:
    """Checks the server's version and makes trueup_app in a database that somebody else runs. Idempotent.

    `switches_role`: there is no log-in of the application's own, so the URL's role has to be a member of trueup_app."""
    connection = await connect(database_url)
    try:
        check_version(connection.get_server_version().major)
        with translated(f"make the role {APP_ROLE}"):
            if not await _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = $1", APP_ROLE):
                await _make_app_role(connection)
            await _make_group_roles(connection)
            if switches_role and not await _exists(connection, MAY_SWITCH, APP_ROLE):
                raise _role_missing("the role of the URL is not a member of it")
    finally:
        await connection.close()


def check_version(major: int) -> None:
    if major < POSTGRES_MAJOR_MIN:
        raise Refusal(
            "open the store",
            f"the server is Postgres {major}",
            fix=f"use Postgres {POSTGRES_MAJOR_MIN} or newer",
            code="postgres_version",
        )


async def _make_app_role(connection: Connection) -> None:
    try:
        await connection.execute(f"CREATE ROLE {APP_ROLE} NOLOGIN")
        await connection.execute(f"GRANT {APP_ROLE} TO CURRENT_USER")
    except asyncpg.InsufficientPrivilegeError as error:
        raise _role_missing(str(error)) from error
    except asyncpg.DuplicateObjectError:
        return  # another process made it at the same moment


async def _make_group_roles(connection: Connection) -> None:
    try:
        for role in GROUP_ROLES:
            if not await _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f"CREATE ROLE {role} NOLOGIN")
    except asyncpg.InsufficientPrivilegeError as error:
        raise _role_missing(str(error)) from error
    except asyncpg.DuplicateObjectError:
        return  # another process made them at the same moment


def _role_missing(why: str) -> Refusal:
    return Refusal(
        f"use the roles {', '.join((APP_ROLE, *GROUP_ROLES))}",
        why,
        fix=f"as an administrator: CREATE ROLE {APP_ROLE} NOLOGIN (and so {', '.join(GROUP_ROLES)});"
        f" GRANT {APP_ROLE} TO the role of the URL;",
        code="postgres_role_missing",
    )


async def _exists(connection: Connection, query: str, *arguments: str) -> bool:
    return await connection.fetchval(query, *arguments) is not None
