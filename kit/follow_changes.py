"""Edge-triggered following: every change of the change stream, handed to whoever has something to do with it.

For programs that need each change; who only needs the newest state uses `kit.follow`. docs/CLIENTS.md shows one.

`follow_changes` promises: first `on_snapshot` gets what there is, then `on_changes` each change behind it, in the
log's order, whole commands at a time and never two calls at once. The cursor goes to the store after the call for what
came before it has returned. So nothing is left out, whatever happens to the connection, the controller or this process,
and within one process nothing comes twice; after a crash the changes of the last call may come again. A log that was
restored (410) leads to a new snapshot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing

from kit import logs
from kit.control_plane import ControlPlane
from kit.cursors import CursorStore
from kit.errors import Refusal
from kit.stream import OnBreak, Stream
from kit.stream_batches import Batch, Batching, Changes, Snapshot
from kit.stream_course import Pace

OnSnapshot = Callable[[Snapshot], Awaitable[None]]
OnChanges = Callable[[Changes], Awaitable[None]]
_log = logs.get("follow")


async def follow_changes(
    control_plane: ControlPlane,
    query: Mapping[str, str],
    on_snapshot: OnSnapshot | None,
    on_changes: OnChanges,
    cursor_store: CursorStore,
    stop: asyncio.Event,
    *,
    pace: Pace | None = None,
    rng: random.Random | None = None,
    on_break: OnBreak | None = None,
) -> None:
    """Until `stop` is set; a call that has begun is waited for. `query`: the filter. Without `on_snapshot` a reader
    that has no cursor begins with what comes from now on, and a cursor that is refused ends it: `Refusal`, as
    everything that a retry does not help against. What the calls raise ends it too, with the cursor where it was."""
    stream = Stream(control_plane, query, pace=pace, rng=rng, on_break=on_break)
    following = _Following(stream, on_snapshot, on_changes, cursor_store)
    await following.start()
    async with aclosing(following.batches()) as batches:
        while (batch := await _next(batches, stop)) is not None:
            await following.handle(batch)


class _Following:
    def __init__(
        self, stream: Stream, on_snapshot: OnSnapshot | None, on_changes: OnChanges, cursor_store: CursorStore
    ) -> None:
        self._stream = stream
        self._on_snapshot = on_snapshot
        self._on_changes = on_changes
        self._cursor_store = cursor_store
        self._cursor = ""

    async def start(self) -> None:
        self._cursor = await self._cursor_store.load()

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """For ever. Each is handled before the next is asked for, so the cursor says what has been handled."""
        while True:
            anew = not self._cursor
            batching = Batching(anew and self._on_snapshot is not None, anew and self._on_snapshot is None)
            try:
                connection = self._stream.connection(self._cursor, snapshot=batching.wants_snapshot)
                async with aclosing(connection) as lines:
                    async for line in lines:
                        if batch := batching.take(line):
                            yield batch
            except Refusal as error:
                self._begin_anew(error)
            else:
                if batch := batching.left():
                    yield batch

    async def handle(self, batch: Batch) -> None:
        if isinstance(batch, Snapshot):
            assert self._on_snapshot is not None
            await self._on_snapshot(batch)
        elif batch.lines:
            await self._on_changes(batch)
        if batch.cursor != self._cursor:
            await self._cursor_store.save(batch.cursor)
            self._cursor = batch.cursor

    def _begin_anew(self, error: Refusal) -> None:
        """The store keeps the old cursor until the snapshot is handled: a crash before that leads here again."""
        if error.code != "cursor_invalid" or self._on_snapshot is None:
            raise error
        _log.warning("cursor refused, beginning with a snapshot", cursor=self._cursor, why=str(error))
        self._cursor = ""


async def _next(batches: AsyncGenerator[Batch, None], stop: asyncio.Event) -> Batch | None:
    """None once `stop` is set."""
    if stop.is_set():
        return None
    coming = asyncio.ensure_future(anext(batches))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return coming.result() if coming.done() else None
    finally:
        coming.cancel()
        stopped.cancel()
        await asyncio.gather(coming, stopped, return_exceptions=True)
