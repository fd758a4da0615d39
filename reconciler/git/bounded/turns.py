"""How many reading processes there are. All sources of a controller share one `ReadingTurns`.

A process keeps some 25 MiB for as long as it lives. A few read at once; those that were used last are kept, so that a
source that is busy need not start one for each commit, and the others are ended. The next question starts a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reconciler.git.bounded.process import ReadingProcess

AT_ONCE_MAX = 4
KEPT_MAX = 8


class ReadingTurns:
    """On one event loop. Processes that read now are never ended for others."""

    def __init__(self, *, at_once_max: int = AT_ONCE_MAX, kept_max: int = KEPT_MAX) -> None:
        self._at_once = asyncio.Semaphore(at_once_max)
        self._kept_max = kept_max
        self._idle: dict[ReadingProcess, None] = {}

    @asynccontextmanager
    async def turn(self, process: ReadingProcess) -> AsyncIterator[None]:
        """Waits until it may read."""
        async with self._at_once:
            self._idle.pop(process, None)
            try:
                yield
            finally:
                self._idle[process] = None
                while len(self._idle) > self._kept_max:
                    oldest = next(iter(self._idle))
                    del self._idle[oldest]
                    oldest.close()
