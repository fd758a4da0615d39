"""The connections that append. Called by `reconciler.store.event_log`.

They stand outside the pool: an append must not wait behind readers, and what a pool does when it takes a connection
back would cost another round trip for each batch. One is opened when it is needed and none is free, and anew after it
broke.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg

from reconciler.store.pool import LOST, translated

PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""Of its session. Its statements are always the same and look things up by index; a plan that was made while the log
was empty would scan for ever, and to plan anew costs more than to append."""


class AppendLine:
    """As many connections as are used at once, which its caller bounds."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection[Any]]]) -> None:
        self._connect = connect
        self._free: list[asyncpg.Connection[Any]] = []
        self._used: set[asyncpg.Connection[Any]] = set()

    @contextlib.asynccontextmanager
    async def use(self, attempted: str) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Whatever leaves the state of the connection in doubt ends it."""
        with translated(attempted):
            connection = await self._take()
            try:
                yield connection
            except asyncpg.PostgresError as error:
                if isinstance(error, LOST):
                    connection.terminate()
                raise
            except BaseException:
                connection.terminate()
                raise
            finally:
                self._used.discard(connection)
                if not connection.is_closed():
                    self._free.append(connection)

    async def _take(self) -> asyncpg.Connection[Any]:
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                break
        else:
            connection = await self._connect()
        self._used.add(connection)
        return connection

    def close(self) -> None:
        for connection in (*self._free, *self._used):
            connection.terminate()
        self._free.clear()
