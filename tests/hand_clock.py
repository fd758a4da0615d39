"""A clock that stands until a test moves it: what waits for a time is woken by `advance` alone."""

from __future__ import annotations

import asyncio
import heapq
import itertools

TURNS = 50
"""Of the event loop, after each step: for whatever was woken to come to its next wait."""


class HandClock:
    def __init__(self) -> None:
        self._now_s = 1000.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now_s(self) -> float:
        return self._now_s

    def utc(self) -> str:
        return "2030-01-01T00:00:00Z"

    async def sleep(self, seconds: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._now_s + seconds, next(self._numbers), done))
        await done

    async def advance(self, seconds: float) -> None:
        """Whoever waits for a moment until then is woken at that moment."""
        end_s = self._now_s + seconds
        await self._settle()
        while self._waiting and self._waiting[0][0] <= end_s:
            self._now_s, _, done = heapq.heappop(self._waiting)
            if not done.done():
                done.set_result(None)
            await self._settle()
        self._now_s = end_s

    async def _settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
