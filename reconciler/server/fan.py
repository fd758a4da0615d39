"""Writes what is new to the readers that are at the end of the log, without waking any of them.

`reconciler.server.streams` seats a connection here as soon as it has been given everything; `reconciler.server.hub`
says which keys have something new. A flush writes to every seat of such a key the same bytes, made once: changes, a
bookmark, the frame of the chunk. While one flush runs, and as long again after it or twice as long, changes gather for
the next: the more readers a key has, the more changes share a write, and half of the time or more stays for others.

A reader that does not take what it is given (anything is left in its buffer here, behind the kernel's) loses its seat.
It goes on from its position when it has taken all of it: so it has at most one piece in memory, and delays nobody.

What a seat has been given: up to `Seat.position`, or up to where its key was clean, whichever is more. A key is clean
up to the head, until something for it comes; then up to the head of before, until that is flushed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field

from kit.clock import Clock
from reconciler.server.ring import Ring

SEATS_PER_TURN = 128
"""Written to before others of this process get their turn: one or two milliseconds."""

MUCH_BYTES = range(8 << 10, 64 << 10)
"""What a seat is written at once when a key has so much to say that it waits twice as long for more: most of a write's
cost is the same for one change and for fifty. Beyond it a seat's buffer would get too full."""

Pieces = dict[tuple[int, bool], tuple[bytes, int]]
"""(position, chunked) -> the bytes that come next, and the position behind them."""


@dataclass(eq=False, slots=True)
class Seat:
    """One connection. `chunked`: HTTP/1.1, whose pieces are framed. `left`: it has no seat any more, for any reason."""

    key: str
    transport: asyncio.Transport
    chunked: bool
    position: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, framed: bytes) -> bool:
        """False: not all of it was taken at once."""
        self.transport.write(framed)
        return not self.transport.get_write_buffer_size()


class Fan:
    """`bookmark`: (log id, position) -> the line of it."""

    def __init__(self, clock: Clock, bookmark: Callable[[str, int], bytes], piece_bytes_max: int) -> None:
        self._clock = clock
        self._bookmark = bookmark
        self._piece_bytes_max = piece_bytes_max
        self._seats: dict[str, dict[Seat, None]] = {}
        self._clean_upto: dict[str, int] = {}
        """Of the keys that have something to flush."""
        self._flushed_from: dict[str, int] = {}
        """Of the keys that are being flushed: up to where each was clean before."""
        self._flushes: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def seated(self, seat: Seat) -> AsyncIterator[None]:
        """`seat` has been given everything that is in the ring."""
        seat.left.clear()
        self._seats.setdefault(seat.key, {})[seat] = None
        try:
            yield
        finally:
            self._leave(seat)

    def touched(self, ring: Ring, keys: Set[str], head_before: int) -> None:
        """There is something new for `keys`, all of it behind `head_before`."""
        for key in self._seats.keys() & keys:
            self._clean_upto.setdefault(key, head_before)
            if key in self._flushes:
                continue
            if len(self._seats[key]) <= SEATS_PER_TURN:
                self._flush_few(ring, key)
            else:
                self._flushes[key] = asyncio.create_task(self._flush_many(ring, key), name=f"flush {key}")

    def remind(self, ring: Ring, seat: Seat) -> None:
        """A bookmark, and whatever else there is; nothing for a seat that was left meanwhile."""
        if not seat.left.is_set():
            self._advance(ring, seat, {})

    def empty(self) -> None:
        """Every seat is left, now."""
        for task in self._flushes.values():
            task.cancel()
        self._flushes.clear()
        self._flushed_from.clear()
        self._clean_upto.clear()
        for seats in list(self._seats.values()):
            for seat in list(seats):
                self._leave(seat)

    def _flush_few(self, ring: Ring, key: str) -> None:
        self._flushed_from[key] = self._clean_upto.pop(key)
        pieces: Pieces = {}
        for seat in list(self._seats[key]):
            self._advance(ring, seat, pieces)
        del self._flushed_from[key]

    async def _flush_many(self, ring: Ring, key: str) -> None:
        """Until there is nothing new for `key`, or nobody to tell."""
        while key in self._clean_upto and key in self._seats:
            started_s, longest = self._clock.now_s(), 0
            self._flushed_from[key] = self._clean_upto.pop(key)
            for turn in batched(self._seats[key], SEATS_PER_TURN):
                pieces: Pieces = {}
                for seat in turn:
                    if not seat.left.is_set():
                        self._advance(ring, seat, pieces)
                longest = max(longest, *(len(framed) for framed, _ in pieces.values()), 0)
                await asyncio.sleep(0)
            del self._flushed_from[key]
            rests = 2 if longest in MUCH_BYTES else 1
            await self._clock.sleep(rests * (self._clock.now_s() - started_s))
        self._clean_upto.pop(key, None)
        del self._flushes[key]

    def _advance(self, ring: Ring, seat: Seat, pieces: Pieces) -> None:
        """Writes all that there is behind the seat's position. `pieces`: what was made for other seats meanwhile."""
        seat.position = self._given(ring, seat)
        while True:
            framed, position = pieces.get((seat.position, seat.chunked)) or self._piece(ring, seat)
            if not framed:  # the ring has moved on; the log has it
                return self._leave(seat)
            pieces[seat.position, seat.chunked] = framed, position
            seat.position = position
            if not seat.write(framed):
                return self._leave(seat)
            if position >= ring.head:
                return None

    def _given(self, ring: Ring, seat: Seat) -> int:
        clean_upto = self._clean_upto.get(seat.key, ring.head)
        return max(seat.position, min(clean_upto, self._flushed_from.get(seat.key, clean_upto)))

    def _piece(self, ring: Ring, seat: Seat) -> tuple[bytes, int]:
        found = ring.read(seat.key, seat.position, self._piece_bytes_max)
        if found is None:
            return b"", seat.position
        data = b"".join(found.lines) + self._bookmark(ring.log_id, found.position)
        return b"%x\r\n%b\r\n" % (len(data), data) if seat.chunked else data, found.position

    def _leave(self, seat: Seat) -> None:
        seats = self._seats.get(seat.key, {})
        seats.pop(seat, None)
        if not seats:
            self._seats.pop(seat.key, None)
        seat.left.set()


def batched(seats: Iterable[Seat], size: int) -> Iterator[list[Seat]]:
    """Of the seats as they are now."""
    now = list(seats)
    for first in range(0, len(now), size):
        yield now[first : first + size]
