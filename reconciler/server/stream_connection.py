"""One open stream: its greeting, the rows of a snapshot, what follows, its end. Used by `reconciler.server.streams`."""

from __future__ import annotations

import asyncio
import random

from reconciler.server.fan import Seat
from reconciler.server.following import Following
from reconciler.server.hub import Hub
from reconciler.server.limits import Limits
from reconciler.server.snapshots import Shown, pieces
from reconciler.server.stream_writer import StreamWriter


class StreamConnection:
    """Every method raises `TimeoutError` when the reader takes nothing, `ConnectionError` when it has left."""

    def __init__(
        self, hub: Hub, key: str, following: Following, writer: StreamWriter, limits: Limits, rng: random.Random
    ) -> None:
        """`rng`: one for all of them, each would be 2.5 KB."""
        self._hub = hub
        self._following = following
        self._writer = writer
        self._limits = limits
        self._seat = Seat(key, writer.transport, chunked=writer.chunked)
        following.ending.wakes(self._seat.left.set)
        self._rng = rng

    @property
    def position(self) -> int:
        return self._following.position

    async def begin(self) -> None:
        await self._writer.begin()
        await self._writer.write(self._following.hello())

    async def show(self, shown: Shown) -> None:
        """All of it and a bookmark, unless everything ends."""
        async with asyncio.timeout(self._limits.snapshot_s_max):
            async for piece in pieces(shown.lines, self._limits.stream_chunk_bytes_max):
                if self._following.ended():
                    return
                await self._writer.write(piece)
            await self._writer.write(self._following.bookmark())

    async def follow(self) -> None:
        """Until everything ends."""
        while not self._following.ended():
            if self._following.at_the_end():
                await self._sit()
                await self._writer.write()
            else:
                await self._writer.write(await self._following.next_piece())

    async def end(self) -> None:
        """Says why, if there is a reason."""
        if self._following.end_reason:
            await self._writer.write(self._following.end())

    async def _sit(self) -> None:
        """For as long as it takes what it is given. Bookmarks of many readers are spread over the time between them."""
        fan, every_s, seat = self._hub.fan, self._limits.bookmark_every_s, self._seat
        seat.position = self._following.position
        async with fan.seated(seat):
            while not seat.left.is_set():
                try:
                    async with asyncio.timeout(every_s * self._rng.uniform(0.5, 1)):
                        await seat.left.wait()
                except TimeoutError:
                    fan.remind(self._hub.current_ring(), seat)
        self._following.position = seat.position
