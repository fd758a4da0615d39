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

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Bug, Transient
from reconciler.core.events import Event
from reconciler.ports import EventLog
from reconciler.server.fan import Fan
from reconciler.server.limits import Limits
from reconciler.server.ring import Keys, Ring, Slice, bookmark_line

_TAIL_WAIT_S = 5.0
_log = logs.get("hub")


class Hub:
    def __init__(self, log: EventLog, keys: Keys, clock: Clock, limits: Limits) -> None:
        self._log = log
        self._keys = keys
        self._clock = clock
        self._limits = limits
        self._ring: Ring | None = None
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._catch_ups = asyncio.Semaphore(limits.catch_ups_max)
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

    async def read(self, key: str, position: int) -> Slice:
        """The next piece behind `position`, from the ring or the log. Without lines: there is nothing new so far."""
        ring = self.current_ring()
        found = ring.read(key, position, self._limits.stream_chunk_bytes_max)
        if found is not None:
            return found
        async with self._catch_ups:
            events = await self._whole_commands(position)
        if not events:
            raise Transient("read the log", f"nothing behind {position}, though its head is {ring.head}")
        return Slice(ring.select(key, events), events[-1].event_id)

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

    def _forget(self, key: str, future: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(key, set())
        waiting.discard(future)
        if not waiting:
            self._waiting.pop(key, None)

    async def _find_head(self) -> None:
        """At the start and after each failure: is this still the log that the ring was made from?"""
        head = await self._log.head()
        ring = self._ring
        if ring is not None and ring.log_id == head.log_id and ring.head <= head.last_event_id:
            return
        limits = self._limits
        self._ring = Ring(
            head.log_id,
            head.last_event_id,
            self._keys,
            events_max=limits.ring_events_max,
            bytes_max=limits.ring_bytes_max,
        )
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
            events = await self._whole_commands(ring.head)
            if not events:
                raise Transient("read the log", f"nothing behind {ring.head}, though its head is {last}")
            before, keys = ring.head, ring.add(events)
            self._wake(keys)
            self.fan.touched(ring, keys, before)

    async def _whole_commands(self, after: int) -> list[Event]:
        """A page of the log that ends where a command ends. A full page may end inside one: that one is left for the
        next page, and if it is the only one the page grows."""
        limit = self._limits.page_events
        while True:
            events = await self._log.read(after, limit=limit)
            if len(events) < limit:
                return events
            whole = [event for event in events if event.command_id != events[-1].command_id]
            if whole:
                return whole
            if limit >= self._limits.command_events_max:
                raise Bug("read the log", f"command {events[-1].command_id} has more than {limit} events")
            limit = min(limit * 4, self._limits.command_events_max)

    def _wake_all(self) -> None:
        self._wake(set(self._waiting))
        self.fan.empty()

    def _wake(self, keys: set[str]) -> None:
        for key in self._waiting.keys() & keys:
            for future in self._waiting[key]:
                if not future.done():
                    future.set_result(None)
