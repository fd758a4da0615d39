"""Work that many ask for at once, done once for all who came before it began.

Used by `reconciler.server.plan_source` and `reconciler.store.heartbeats`: what is under way may have begun before what
a caller wants to see, or have written; so who comes meanwhile waits for the next turn, together with all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class SharedTurn:
    """One turn at a time. `work` is called without an argument; what it raises, all who wait for that turn get."""

    def __init__(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        self._work = work
        self._name = name
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def done(self) -> None:
        """Returns when a turn that began after this call has ended. A caller that is cancelled stops no turn."""
        if self._next is None:
            self._next = asyncio.create_task(self._turn(self._running), name=self._name)
        await asyncio.shield(self._next)

    async def _turn(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        await self._work()
