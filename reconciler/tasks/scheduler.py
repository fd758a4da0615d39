"""The scheduler's loop: read everything, schedule, append. Started by `reconciler.bootstrap`.

Woken by any new event, by the time that the last pass named, and each `FULL_PASS_S` without either. A pass takes no
input: it waits until the views are as far as the log, reads them in one snapshot, and lets
`reconciler.core.scheduler` decide. What it wants goes through `reconciler.handlers`, which lets one scheduler write
at a time; a pass that was overtaken is repeated on what is there then. Only the clocks (`Times`) live from pass to
pass, and they may be lost.
"""

from __future__ import annotations

import asyncio
import random

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Transient, TrueupError
from kit.waiting import first_of
from reconciler.core.commands import Append, Fence
from reconciler.core.scheduler.actions import Actions
from reconciler.core.scheduler.convergence import next_limit_s, outcomes, waiting
from reconciler.core.scheduler.schedule import schedule
from reconciler.core.scheduler.snapshot import VIEWS, Memory, Snapshot, read_snapshot
from reconciler.core.scheduler.times import Times
from reconciler.handlers import Handlers
from reconciler.ids import Ids
from reconciler.ports import EventLog, Views, ViewSnapshot

FULL_PASS_S = 30.0
PASS_GAP_S = 0.1
"""Between two passes, so that a burst of reports is one pass and not a hundred."""

VIEW_WAIT_S = 10.0

_log = logs.get("scheduler")


class Scheduler:
    def __init__(
        self, log: EventLog, views: Views, handlers: Handlers, ids: Ids, clock: Clock, rng: random.Random
    ) -> None:
        self._event_log = log
        self._views = views
        self._handlers = handlers
        self._ids = ids
        self._clock = clock
        self._rng = rng
        self._backoff = Backoff(first_s=0.2, cap_s=10.0)
        self._times = Times()
        self._memory = Memory()
        self._fence: Fence | None = None
        self._overtaken = False
        self._late_at_s: float | None = None
        self._unreadable: frozenset[str] = frozenset()

    async def run(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set. A pass that fails is tried again with backoff; nothing ends the loop. `fence`: of the
        term in which it runs. A new term starts with new clocks: what was measured in an older one is out of date."""
        self._fence, self._times = fence, Times()
        failures = 0
        while not stop.is_set():
            head, delay_s = -1, 0.0
            try:
                head, delay_s = await self._pass_and_wake()
                failures = 0
            except Exception as error:
                failures += 1
                delay_s = self._backoff.delay_s(failures, self._rng)
                known = isinstance(error, TrueupError)
                _log.error("pass failed", failures=failures, why=str(error), exc=None if known else error)
            await self._rest(head, delay_s, stop)

    async def one_pass(self) -> Actions:
        """Reads, schedules, appends. Raises `Transient` when the views do not come as far as the log."""
        head = await self._event_log.head()
        await self._views.wait_for(head.last_event_id, VIEWS, VIEW_WAIT_S)
        views = await self._views.snapshot(VIEWS)
        if views.event_id < head.last_event_id:
            raise Transient("schedule", f"the views went back from {head.last_event_id} to {views.event_id}")
        now_s = self._clock.now_s()
        # A large fleet takes a while to read; hooks and streams of this process are answered meanwhile.
        snapshot, actions = await asyncio.to_thread(self._decide, views, now_s)
        self._say_unreadable(snapshot)
        self._times = actions.times
        for action in actions:
            _log.info("decided", action=str(action))
        recorded = await self._handlers.apply_schedule(actions, views.event_id, self._fence)
        self._overtaken = recorded.stale
        if recorded.stale:
            _log.info("overtaken; looking again")
        told, self._late_at_s = await asyncio.to_thread(_outcomes, views, actions, now_s)
        await self._handlers.record_outcomes(told, self._fence)
        return actions

    def _decide(self, views: ViewSnapshot, now_s: float) -> tuple[Snapshot, Actions]:
        """In a worker thread."""
        snapshot = read_snapshot(views.rows, views.event_id, self._memory)
        awaited = waiting(views.rows)
        times = self._times.observe(snapshot, now_s, awaited.revisions, awaited.free)
        return snapshot, schedule(snapshot, times, lambda: self._ids("i"), now_s)

    async def _pass_and_wake(self) -> tuple[int, float]:
        """The position of the log before the pass, and how long to sleep if nothing comes."""
        head = (await self._event_log.head()).last_event_id
        actions = await self.one_pass()
        if actions.more or self._overtaken:
            return head, 0.0
        now_s = self._clock.now_s()
        wakes_s = [at_s - now_s for at_s in (actions.wake_at_s, self._late_at_s) if at_s is not None]
        return head, max(0.0, min([FULL_PASS_S, *wakes_s]))

    async def _rest(self, head: int, delay_s: float, stop: asyncio.Event) -> None:
        """Until the log has moved past `head` (-1: do not look at the log), the delay is over, or `stop`."""
        delay_s = max(delay_s, min(PASS_GAP_S, FULL_PASS_S))
        moved = [self._moved(head, delay_s)] if head >= 0 else []
        await first_of(stop.wait(), self._clock.sleep(delay_s), *moved)

    async def _moved(self, head: int, timeout_s: float) -> None:
        await self._event_log.wait_past(head, timeout_s)
        await self._clock.sleep(PASS_GAP_S)

    def _say_unreadable(self, snapshot: Snapshot) -> None:
        """Once per change: the rows stay as they are and stop only themselves."""
        now = frozenset(snapshot.unreadable)
        for key in sorted(now - self._unreadable):
            _log.error("row not understood, left as it is", key=key, why=snapshot.unreadable[key])
        self._unreadable = now


def _outcomes(views: ViewSnapshot, actions: Actions, now_s: float) -> tuple[list[Append], float | None]:
    """In a worker thread. What to tell of revisions, and when the next of them is late."""
    told = list(outcomes(views.rows, actions.matching, actions.times, now_s))
    return told, next_limit_s(views.rows, actions.times)
