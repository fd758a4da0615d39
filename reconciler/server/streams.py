"""GET /v1/stream: the change stream and its long poll. Called by `reconciler.server.routes`.

    hello, then any number of (changes of whole commands, bookmark), then end.
    hello, then the rows of a snapshot, bookmark, and so on as above.

A stream is a position. Behind the end of the log it is a loop: take the next piece behind the position from the hub,
write it with its bookmark in one write, wait until the client has taken it. At the end it has a seat in the `Fan`,
which writes to many at once; who does not take that at once is back in the loop. So a slow client holds one piece
(`stream_chunk_bytes_max`) and the socket's buffer, and delays nobody. A client that takes nothing for `stream_stall_s`
is cut off, and told why as far as it can be: now, or when it comes back. Positions only grow: within one connection an
event is sent once, and across connections the client goes on from the last cursor that it kept.

What a reader sees is one filter key (`reconciler.server.stream_query`).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from kit import logs
from kit.clock import Clock
from reconciler.ports import EventLog
from reconciler.server.auth import Identity
from reconciler.server.ending import ENDING, Ending
from reconciler.server.following import Following, line_of
from reconciler.server.hub import Hub
from reconciler.server.limits import Limits
from reconciler.server.problems import Problem
from reconciler.server.slow_readers import REASON, SlowReaders
from reconciler.server.snapshots import Snapshots
from reconciler.server.stream_connection import StreamConnection
from reconciler.server.stream_query import Asked, asked
from reconciler.server.stream_writer import HEADERS, StreamWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SNAPSHOT_PATH = "/v1/stream?snapshot=1"
_CURSOR = re.compile(r"([A-Za-z0-9_-]{1,64})\.(\d{1,18})")
_log = logs.get("streams")


class Streams:
    """All open streams of this process."""

    def __init__(self, hub: Hub, log: EventLog, snapshots: Snapshots, clock: Clock, limits: Limits) -> None:
        self._hub = hub
        self._event_log = log
        self._snapshots = snapshots
        self._clock = clock
        self._limits = limits
        self._open: Counter[Identity] = Counter()
        self._slow = SlowReaders(clock)
        self._rng = random.Random()  # noqa: S311  # jitter

    @property
    def open_count(self) -> int:
        return self._open.total()

    def document(self) -> dict[str, int]:
        """For the status."""
        return {"open": self.open_count, "cut_off": self._slow.count}

    async def serve(self, request: web.Request, identity: Identity) -> web.StreamResponse:
        """One connection, from hello to end."""
        wanted = asked(identity, request.query, self._limits.poll_wait_s_max)
        with self._counted(identity), self._hub.following(wanted.key):
            if wanted.snapshot:
                return await self._from_snapshot(request, identity, wanted)
            position = await self._start(wanted.cursor)
            if wanted.wait_s is not None:
                return await self._long_poll(identity, wanted.key, position, wanted.wait_s)
            return await self._stream(request, identity, wanted.key, position)

    async def _stream(self, request: web.Request, identity: Identity, key: str, position: int) -> web.StreamResponse:
        writer, following = (
            StreamWriter(request, self._limits),
            self._following(identity, key, position, request.get(ENDING)),
        )
        connection = StreamConnection(self._hub, key, following, writer, self._limits, self._rng)
        async with self._served(identity, following, writer):
            await connection.begin()
            await connection.follow()
            await connection.end()
        return writer.response

    async def _from_snapshot(self, request: web.Request, identity: Identity, wanted: Asked) -> web.StreamResponse:
        """As a long poll too it is written in pieces; it is then all there is."""
        ring = await self._hub.started(self._limits.view_wait_s)
        async with self._snapshots.shown(identity, wanted.key) as shown:
            if shown.log_id != ring.log_id:
                raise Problem("unavailable", "the log is just becoming another one", fix="come back in a moment")
            writer = StreamWriter(request, self._limits)
            following = self._following(identity, wanted.key, shown.event_id, request.get(ENDING))
            connection = StreamConnection(self._hub, wanted.key, following, writer, self._limits, self._rng)
            async with self._served(identity, following, writer):
                await connection.begin()
                await connection.show(shown)
        if writer.broken:
            return writer.response
        async with self._served(identity, following, writer):
            if wanted.wait_s is None:
                await connection.follow()
            await connection.end()
        return writer.response

    @asynccontextmanager
    async def _served(self, identity: Identity, following: Following, writer: StreamWriter) -> AsyncIterator[None]:
        """What is done for a reader, until it takes no more or leaves: nothing further is written then."""
        try:
            yield
        except TimeoutError:
            _log.warning("slow reader cut off", identity=str(identity), position=following.position)
            self._slow.cut_off(identity)
            await writer.give_up(line_of(type="end", reason=REASON))
        except ConnectionError:
            _log.debug("reader left", identity=str(identity), position=following.position)
            writer.broken = True

    async def _long_poll(self, identity: Identity, key: str, position: int, wait_s: float) -> web.StreamResponse:
        """The same lines as one bounded answer: as soon as there is a change, or after `wait_s` without one."""
        deadline = self._clock.now_s() + wait_s
        following = self._following(identity, key, position)
        lines = following.hello()
        while True:
            left_s = deadline - self._clock.now_s()
            data = await following.next_piece(max(left_s, 0))
            if not data or following.sent_changes or left_s <= 0:
                break
        return web.Response(body=lines + (data or following.end()), headers=HEADERS)

    def _following(self, identity: Identity, key: str, position: int, ending: Ending | None = None) -> Following:
        return Following(self._hub, key, position, ending or Ending(), self._slow.why(identity))

    async def _start(self, cursor: str) -> int:
        """The position that a cursor names; without one, the present head."""
        ring = await self._hub.started(self._limits.view_wait_s)
        if not cursor:
            return ring.head
        match = _CURSOR.fullmatch(cursor)
        if match is None:
            raise Problem("invalid_argument", f"cursor {cursor[:80]!r} is not LOGID.NUMBER")
        log_id, position, head = match[1], int(match[2]), ring.head
        if log_id == ring.log_id and position > head:
            head = (await self._event_log.head()).last_event_id  # the tail may be a moment behind a plan
        if log_id != ring.log_id or position > head:
            why = "is of another log" if log_id != ring.log_id else "is beyond the head of the log"
            present = f"{ring.log_id}.{head}"
            raise Problem(
                "cursor_invalid",
                f"cursor {cursor} {why}; the present cursor is {present}",
                fix="read the plan and go on from its log_id and generation, or come back with snapshot=1",
                extra={"cursor": present, "snapshot": SNAPSHOT_PATH},
            )
        if wait_s := self._hub.retry_after_s(position):
            why = "too many change streams wait for old events"
            raise Problem("unavailable", why, fix="come back after the time that is told", retry_after_s=wait_s)
        return position

    @contextmanager
    def _counted(self, identity: Identity) -> Iterator[None]:
        if self.open_count >= self._limits.streams_max:
            raise Problem("unavailable", f"{self._limits.streams_max} change streams are open, which is the bound")
        if self._open[identity] >= self._limits.streams_per_identity_max:
            bound = self._limits.streams_per_identity_max
            raise Problem("too_many_streams", f"{identity} has {bound} change streams open, which is the bound")
        self._open[identity] += 1
        try:
            yield
        finally:
            self._open[identity] -= 1
            if not self._open[identity]:
                del self._open[identity]
