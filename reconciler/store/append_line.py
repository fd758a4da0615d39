"""The one connection that appends. Called by `reconciler.store.event_log`.

It stands outside the pool: an append must not wait behind readers, and what a pool does when it takes a connection back
would cost another round trip for each batch. It is opened when it is first needed, and anew after it broke.
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
    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection[Any]]]) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection[Any] | None = None

    @contextlib.asynccontextmanager
    async def use(self, attempted: str) -> AsyncIterator[asyncpg.Connection[Any]]:
        """By one at a time. Whatever leaves the state of the connection in doubt ends it."""
        with translated(attempted):
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connect()
            try:
                yield self._connection
            except asyncpg.PostgresError as error:
                if isinstance(error, LOST):
                    self.close()
                raise
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
