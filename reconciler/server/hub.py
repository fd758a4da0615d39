"""The one tail of the log in this process, and who waits for it.

`bootstrap` runs `Hub.run` as a task; `reconciler.server.streams` reads through `Hub.read`. The tail reads whole
commands from the log into a `Ring` and wakes only the readers whose key was touched. A reader whose position the ring
has left behind is served from the log, a few such readers at a time, until it is near enough.

When the log becomes another one under our feet (restored from a backup: other id, or a head that went back) every
stream ends with the reason "log_changed"; the clients then get 410 and start from a plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Transient
from reconciler.core.events import Event
from reconciler.core.filters import ALL, told
from reconciler.ports import EventLog
from reconciler.server.fan import Fan
from reconciler.server.limits import Limits
from reconciler.server.log_reading import LogReading
from reconciler.server.ring import Ring, Slice, bookmark_line, change_line, removal_line

_TAIL_WAIT_S = 5.0
_log = logs.get("hub")


class Hub:
    def __init__(self, log: EventLog, clock: Clock, limits: Limits) -> None:
        self._log = log
        self._reading = LogReading(log, limits)
        self._clock = clock
        self._limits = limits
        self._ring: Ring | None = None
        self._readers: Counter[str] = Counter()
        """How many each key has."""
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._catch_ups = asyncio.Semaphore(limits.catch_ups_max)
        self._catching_up_count = self._refused = 0
        self._rng = random.Random()  # noqa: S311  # jitter
        self._started = asyncio.Event()
        self.fan = Fan(clock, bookmark_line, limits.stream_chunk_bytes_max)
        self.generation = 0
        """Grows when the log became another one; a stream that began in an older generation ends."""
        self.closing = ""
        """The reason why every stream ends now; empty while the server serves."""

    @property
    def ready(self) -> bool:
        return self._ring is not None

    def current_ring(self) -> Ring:
        if self._ring is None:
            raise Transient("open a change stream", "the controller has not read its log yet", code="unavailable")
        return self._ring

    async def started(self, timeout_s: float) -> Ring:
        """The ring, as soon as the tail has found the head of the log."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._started.wait(), timeout_s)
        return self.current_ring()

    def close(self, reason: str) -> None:
        """Every stream writes its end line and returns."""
        self.closing = self.closing or reason
        self._wake_all()

    async def run(self) -> None:
        """For ever, until cancelled. A log that cannot be read is tried again."""
        backoff, failures, rng = Backoff(0.1, 5.0), 0, random.Random()  # noqa: S311  # jitter
        while True:
            try:
                await self._find_head()
                while True:
                    await self._advance()
                    failures = 0
            except Transient as error:
                failures += 1
                _log.warning("log not read", failures=failures, why=str(error))
            except Exception as error:
                # Every stream of the process hangs on this tail: a bug in it is shouted about, and tried again.
                failures += 1
                _log.error("the tail of the log broke", exc=error, failures=failures)
            await self._clock.sleep(backoff.delay_s(failures, rng))

    @contextlib.contextmanager
    def following(self, key: str) -> Iterator[None]:
        """Around all that a reader asks with its key."""
        self._readers[key] += 1
        if self._ring is not None:
            self._ring.follow(key)
        try:
            yield
        finally:
            self._readers[key] -= 1
            if not self._readers[key]:
                del self._readers[key]
                if self._ring is not None:
                    self._ring.unfollow(key)

    async def read(self, key: str, position: int) -> Slice:
        """The next piece behind `position`, from the ring or the log. Without lines: there is nothing new so far."""
        ring = self.current_ring()
        found = ring.read(key, position, self._limits.stream_chunk_bytes_max)
        if found is not None:
            return found
        async with self._catching_up():
            if key == ALL:
                events = await self._reading.whole_commands(position, ring.floor)
                end = events[-1].event_id
            else:
                end = await self._reading.command_end(min(position + self._limits.scan_events, ring.floor), ring.floor)
                events, end = await self._reading.scan(key, position, end)
        return Slice(tuple(line_for(ring.log_id, key, event) for event in events), end)

    async def wait(self, key: str, position: int, timeout_s: float) -> bool:
        """True as soon as `key` may have something behind `position`; False after the time-out."""
        ring = self.current_ring()
        found = ring.read(key, position, 1)
        if self.closing or found is None or found.lines:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(future)
        try:
            async with asyncio.timeout(max(timeout_s, 0)):
                await future
        except TimeoutError:
            return False
        finally:
            self._forget(key, future)
        return True

    def retry_after_s(self, position: int) -> int:
        """0 for a reader that may come in: the ring has what it needs, or few enough wait for the log. Otherwise when
        it should come back: at random, so that they do not come back together."""
        waiting = self._catching_up_count
        if position >= self.current_ring().floor or waiting < self._limits.catch_ups_waiting_max:
            return 0
        self._refused += 1
        return 1 + int(self._rng.uniform(0, (waiting + self._refused) / self._limits.catch_ups_per_s))

    @contextlib.asynccontextmanager
    async def _catching_up(self) -> AsyncIterator[None]:
        self._catching_up_count += 1
        try:
            async with self._catch_ups:
                yield
        finally:
            self._catching_up_count -= 1
            self._refused = max(0, self._refused - 1)

    def _forget(self, key: str, future: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(key, set())
        waiting.discard(future)
        if not waiting:
            self._waiting.pop(key, None)

    async def _find_head(self) -> None:
        """At the start and after each failure: is this still the log that the ring was made from? A new ring begins
        with what came last."""
        head = await self._log.head()
        ring = self._ring
        if ring is not None and ring.log_id == head.log_id and ring.head <= head.last_event_id:
            return
        limits, last = self._limits, head.last_event_id
        start = max(0, last - min(limits.ring_start_events, limits.ring_events_max))
        start = await self._reading.command_end(start, last)
        new = Ring(head.log_id, start, events_max=limits.ring_events_max, bytes_max=limits.ring_bytes_max)
        while new.head < last:
            new.add(await self._reading.whole_commands(new.head, last))
        for key in self._readers:
            new.follow(key)
        self._ring = new
        if ring is not None:
            self.generation += 1
            _log.warning("the log is another one now", before=f"{ring.log_id}.{ring.head}", now=head.log_id)
            self._wake_all()
        self._started.set()

    async def _advance(self) -> None:
        ring = self.current_ring()
        last = await self._log.wait_past(ring.head, _TAIL_WAIT_S)
        if last <= ring.head:
            await self._find_head()
            return
        while ring.head < last:
            events = await self._reading.whole_commands(ring.head, last)
            before, keys = ring.head, ring.add(events)
            self._wake(keys)
            self.fan.touched(ring, keys, before)

    def _wake_all(self) -> None:
        self._wake(set(self._waiting))
        self.fan.empty()

    def _wake(self, keys: set[str]) -> None:
        for key in self._waiting.keys() & keys:
            for future in self._waiting[key]:
                if not future.done():
                    future.set_result(None)


def line_for(log_id: str, key: str, event: Event) -> bytes:
    """Of an event that concerns `key`."""
    return removal_line(log_id, event) if told(event, key) == "removal" else change_line(log_id, event)
