"""The commits of one source that the log said something about, for whoever tells others what became of them.

`reconciler.tasks.notes` and `commit_statuses` each have a `CommitsToTell`, and keep their cursor nowhere else: at the
start of a term the newest events about revisions are gone over again, for nothing is told twice that is known already.
What cannot be told now stays waiting; beyond WAITING_MAX the oldest are let go.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import said, unknown
from kit.waiting import first_of
from reconciler.core.event_filter import EventFilter
from reconciler.core.events import Event
from reconciler.ports import EventLog

PAGE_EVENTS = 500
WAITING_MAX = 1_000
WAIT_S = 30.0
_RECENT = EventFilter(aggregate_types=("revision",), newest=True)
_FROM_NOW = EventFilter(aggregate_types=("revision", "deployment"))


@dataclass(slots=True)
class CommitsToTell:
    """`about`: the commits that an event may say something new of. `recent_max`: events that a term begins with.
    `gap_s`: between two rounds, so that the steps of one commit are told once. `blocked_s`: for how long nothing can be
    told now. `trouble`: why it could not be told, "" when it could."""

    source_id: str
    log: EventLog
    clock: Clock
    rng: random.Random
    about: Callable[[Event, str], Iterable[str]]
    recent_max: int
    gap_s: float
    logger: Any
    blocked_s: Callable[[], float] = lambda: 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=2.0, cap_s=300.0))
    waiting: dict[str, None] = field(default_factory=dict)
    cursor: int = -1
    trouble: str = ""

    async def repeat(self, tell: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
        """Until `stop` is set: `tell`, whenever the log has more, and after a failure again with growing pauses."""
        self.cursor, failures = -1, 0
        while not stop.is_set():
            pause_s = self.gap_s
            try:
                await tell()
                failures, self.trouble = 0, ""
            except Exception as error:  # whatever it is, only these commits wait
                failures += 1
                self._failed(error)
                pause_s = max(self.gap_s, self.backoff.delay_s(failures, self.rng), self.blocked_s())
            await first_of(self.clock.sleep(pause_s), stop.wait())
            if not failures and not stop.is_set():
                await first_of(self.log.wait_past(self.cursor, WAIT_S), stop.wait())

    async def read(self) -> None:
        """Everything that the log has by now."""
        if self.cursor < 0:
            head = (await self.log.head()).last_event_id
            self._add(await self.log.read(0, limit=self.recent_max, only=_RECENT, upto=head))
            self.cursor = head
        while True:
            head = (await self.log.head()).last_event_id
            events = await self.log.read(self.cursor, limit=PAGE_EVENTS, only=_FROM_NOW, upto=head)
            self._add(events)
            if len(events) < PAGE_EVENTS:
                self.cursor = max(head, self.cursor)
                return
            self.cursor = events[-1].event_id

    def told(self, commit: str) -> None:
        self.waiting.pop(commit, None)

    def _add(self, events: Iterable[Event]) -> None:
        """What is newest is told last: by then the log may have said all of it."""
        for event in events:
            for commit in self.about(event, self.source_id):
                self.waiting.pop(commit, None)
                self.waiting[commit] = None
        while len(self.waiting) > WAITING_MAX:
            self.waiting.pop(next(iter(self.waiting)))

    def _failed(self, error: Exception) -> None:
        self.trouble = said(error)
        self.logger.warning("not told", exc=unknown(error), source=self.source_id, why=self.trouble)
