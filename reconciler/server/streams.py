"""GET /v1/stream: the change stream and its long poll. Called by `reconciler.server.routes`.

    hello, then any number of (changes of whole commands, bookmark), then end.

A stream is a position. Behind the end of the log it is a loop: take the next piece behind the position from the hub,
write it with its bookmark in one write, wait until the client has taken it. At the end it has a seat in the `Fan`,
which writes to many at once; who does not take that at once is back in the loop. So a slow client holds one piece
(`stream_chunk_bytes_max`) and the socket's buffer, and delays nobody. A client that takes nothing for `stream_stall_s`
is cut off. Positions only grow: within one connection an event is sent once, and across connections the client goes on
from the last cursor that it kept.

The filter is the caller's identity, never its query.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http import HttpVersion11

from kit import logs
from kit.clock import Clock
from kit.errors import TrueupError
from reconciler.ports import EventLog
from reconciler.server.auth import Identity
from reconciler.server.ending import ENDING, Ending
from reconciler.server.fan import Seat
from reconciler.server.hub import Hub
from reconciler.server.limits import Limits
from reconciler.server.problems import Problem
from reconciler.server.ring import ALL, bookmark_line

if TYPE_CHECKING:
    from collections.abc import Iterator

NDJSON = "application/x-ndjson"
_CURSOR = re.compile(r"([A-Za-z0-9_-]{1,64})\.(\d{1,18})")
_log = logs.get("streams")


def stream_key(identity: Identity) -> str:
    """The filter key of a caller, in the words of `reconciler.core.filters`."""
    match identity.role:
        case "node":
            return f"node:{identity.name}"
        case "edge":
            return "edge"
        case "operator" | "token" | "oidc":
            return ALL
        case _:
            raise Problem("forbidden", f"a {identity.role} has no change stream")


class Streams:
    """All open streams of this process."""

    def __init__(self, hub: Hub, log: EventLog, clock: Clock, limits: Limits) -> None:
        self._hub = hub
        self._event_log = log
        self._clock = clock
        self._limits = limits
        self._open: Counter[Identity] = Counter()
        self._rng = random.Random()  # noqa: S311  # jitter

    @property
    def open_count(self) -> int:
        return self._open.total()

    async def serve(self, request: web.Request, identity: Identity) -> web.StreamResponse:
        """One connection, from hello to end."""
        key = stream_key(identity)
        wait_s = _parse_wait(request.query.get("wait"), self._limits.poll_wait_s_max)
        with self._counted(identity):
            position = await self._start(request.query.get("cursor", ""))
            if wait_s is not None:
                return await self._long_poll(key, position, wait_s)
            return await self._stream(request, identity, key, position)

    async def _stream(self, request: web.Request, identity: Identity, key: str, position: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
        seat = Seat(key, _bound_socket(request, self._limits), chunked=request.version >= HttpVersion11)
        ending = request.get(ENDING) or Ending()
        ending.wakes(seat.left.set)
        await response.prepare(request)
        following = _Following(self._hub, key, position, ending)
        try:
            await self._write(request, response, following.hello())
            while not following.ended():
                if following.at_the_end():
                    await self._sit(following, seat)
                    await self._write(request, response, b"")
                else:
                    await self._write(request, response, await following.next_piece())
            await self._write(request, response, _line(type="end", reason=following.end_reason))
        except TimeoutError:
            _log.warning("slow reader cut off", identity=str(identity), position=following.position)
            _abort(request)
        except ConnectionError:
            _log.debug("reader left", identity=str(identity), position=following.position)
        return response

    async def _sit(self, following: _Following, seat: Seat) -> None:
        """For as long as it takes what it is given. Bookmarks of many readers are spread over the time between them."""
        fan, every_s = self._hub.fan, self._limits.bookmark_every_s
        seat.position = following.position
        async with fan.seated(seat):
            while not seat.left.is_set():
                try:
                    async with asyncio.timeout(every_s * self._rng.uniform(0.5, 1)):
                        await seat.left.wait()
                except TimeoutError:
                    fan.remind(self._hub.current_ring(), seat)
        following.position = seat.position

    async def _long_poll(self, key: str, position: int, wait_s: float) -> web.StreamResponse:
        """The same lines as one bounded answer: as soon as there is a change, or after `wait_s` without one."""
        deadline = self._clock.now_s() + wait_s
        following = _Following(self._hub, key, position, Ending())
        lines = following.hello()
        while True:
            left_s = deadline - self._clock.now_s()
            data = await following.next_piece(max(left_s, 0))
            if not data or following.sent_changes or left_s <= 0:
                break
        lines += data or _line(type="end", reason=following.end_reason)
        return web.Response(body=lines, headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})

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
                fix="read the plan and go on from its log_id and generation",
                extra={"cursor": present},
            )
        if wait_s := self._hub.retry_after_s(position):
            why = "too many change streams wait for old events"
            raise Problem("unavailable", why, fix="come back after the time that is told", retry_after_s=wait_s)
        return position

    async def _write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        """Returns when the kernel has taken everything."""
        async with asyncio.timeout(self._limits.stream_stall_s):
            if data:
                await response.write(data)
            await request.writer.drain()

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


class _Following:
    """The position of one connection in one log, and the bytes that come next."""

    def __init__(self, hub: Hub, key: str, position: int, ending: Ending) -> None:
        self._hub = hub
        self._ending = ending
        self._key = key
        self._log_id = hub.current_ring().log_id
        self._generation = hub.generation
        self.position = position
        self.sent_changes = False
        self.end_reason = ""

    def hello(self) -> bytes:
        return _line(type="hello", log_id=self._log_id, cursor=self._cursor())

    def at_the_end(self) -> bool:
        """The ring has nothing behind the position, for any key."""
        return self.position >= self._hub.current_ring().head

    async def next_piece(self, wait_s: float = 0) -> bytes:
        """Changes and their bookmark; after `wait_s` without a change the bookmark alone; empty at the end."""
        try:
            if wait_s and not self.ended():
                await self._hub.wait(self._key, self.position, wait_s)
            if self.ended():
                return b""
            piece = await self._hub.read(self._key, self.position)
        except TrueupError as error:
            self.end_reason = error.code
            return b""
        if self.ended():  # while it was read the log may have become another one
            return b""
        self.position = piece.position
        self.sent_changes = bool(piece.lines)
        return b"".join(piece.lines) + bookmark_line(self._log_id, self.position)

    def ended(self) -> bool:
        moved = "log_changed" if self._hub.generation != self._generation else ""
        self.end_reason = self.end_reason or self._ending.reason or self._hub.closing or moved
        return bool(self.end_reason)

    def _cursor(self) -> str:
        return f"{self._log_id}.{self.position}"


def _parse_wait(text: str | None, wait_s_max: float) -> float | None:
    if text is None:
        return None
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= wait_s_max:
        raise Problem("invalid_argument", f"wait={text[:20]!r} is not a number of seconds from 0 to {wait_s_max:g}")
    return wait_s


def _line(**fields: str) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _bound_socket(request: web.Request, limits: Limits) -> asyncio.Transport:
    """The kernel's share of a slow reader's memory, and when it gives up a vanished one. Later than we give up a slow
    one, so that a slow one is cut off with the reason in the log. Beside it nothing is buffered but the last piece."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the reader left before it was answered")
    transport.set_write_buffer_limits(
        high=1, low=0
    )  # at high=0 the transport of TLS takes an empty buffer for a full one
    connection = transport.get_extra_info("socket")
    if connection is None:
        return transport
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.stream_sndbuf_bytes)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.stream_stall_s * 2000))
    return transport


def _abort(request: web.Request) -> None:
    """Close without waiting for the client to take what is buffered."""
    if request.transport is not None:
        request.transport.abort()
