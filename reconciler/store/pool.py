"""Connections to Postgres: how they are opened, bounded, and how their errors become ours.

Called by every other module of this folder. Each connection speaks UTC, knows json as Python documents, and has
limits on both sides: the server ends a statement, a wait for a lock and an idle transaction; the client ends a silent
connection.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from kit.errors import Bug, Refusal, Transient, TrueupError
from reconciler.store.limits import (
    ACQUIRE_TIMEOUT_S,
    COMMAND_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    IDLE_IN_TRANSACTION_TIMEOUT_MS,
    LOCK_TIMEOUT_MS,
    STATEMENT_TIMEOUT_MS,
)

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[Any] | PoolConnectionProxy[Any]

SCHEMA = "trueup"

LOST: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what the pool says when it takes back a connection that broke in mid-operation
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    OSError,
    TimeoutError,
)
"""The connection, or the server behind it, has gone: what it was doing may or may not have happened."""

BUSY: tuple[type[BaseException], ...] = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
)
"""The server said no and undid the transaction; later it may say yes."""


async def connect(url: str, *, role: str = "", settings: Mapping[str, str] | None = None) -> asyncpg.Connection[Any]:
    """One connection outside the pool. `settings`: of its session, beside those that all have."""
    with translated("connect to Postgres"):
        connection = await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings=_session(role) | dict(settings or {}),
        )
    await _prepare(connection)
    return connection


async def open_pool(url: str, *, role: str = "", connections_max: int) -> asyncpg.Pool[Any]:
    with translated("connect to Postgres"):
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=connections_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings=_session(role),
            init=_prepare,
        )


@contextlib.asynccontextmanager
async def borrowed(pool: asyncpg.Pool[Any], attempted: str) -> AsyncIterator[Connection]:
    """A connection of the pool; `attempted` begins the message when it, or what is done on it, fails."""
    with translated(attempted):
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            yield connection


@contextlib.contextmanager
def translated(attempted: str) -> Iterator[None]:
    """Database errors come out as `Transient`, `Refusal` or `Bug`; others as they are."""
    try:
        yield
    except TrueupError:
        raise
    except (asyncpg.PostgresError, *LOST) as error:
        raise as_ours(attempted, error) from error


def as_ours(attempted: str, error: BaseException) -> TrueupError:
    """The table of what a database error means for the caller."""
    why = str(error) or type(error).__name__
    if isinstance(error, asyncpg.DiskFullError):
        return Transient(attempted, why, fix="free disk space for Postgres", code="disk_full")
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError):
        return Refusal(attempted, why, fix="correct the user, password or database in the URL", code="postgres_denied")
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return Bug(attempted, why, code="postgres_argument")  # a value that does not fit its column's type
    if isinstance(error, LOST):
        return Transient(attempted, why, fix="see that Postgres runs and is reachable", code="postgres_unavailable")
    if isinstance(error, BUSY):
        return Transient(attempted, why, code="postgres_busy")
    return Bug(attempted, why, code="postgres_error")


def _session(role: str) -> dict[str, str]:
    session = {
        "application_name": "trueup",
        "timezone": "UTC",
        "search_path": SCHEMA,
        "statement_timeout": str(STATEMENT_TIMEOUT_MS),
        "lock_timeout": str(LOCK_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
    }
    return {**session, "role": role} if role else session


async def _prepare(connection: asyncpg.Connection[Any]) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=_encode, decoder=json.loads)


def _encode(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False)
