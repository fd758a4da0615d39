"""When a commit that was refused, or applied except for some apps, is judged again although no other one came.

Used by `GitSync` in each pass. What stood against it may have lain outside of it (`core.outside`): then an event that
may have freed something makes it due, with growing pauses as long as that is in vain; and anything is due after
AGAIN_S. Judging it to the same end tells nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from kit.backoff import Backoff
from kit.clock import Clock
from reconciler.core.event_filter import EventFilter
from reconciler.core.outside import FREEING, may_have_freed
from reconciler.ports import EventLog

AGAIN_S = 300.0
JITTER = 0.1
EVENTS_MAX = 200
_FREEING = EventFilter(event_types=FREEING)


@dataclass(slots=True)
class Again:
    source_id: str
    log: EventLog
    clock: Clock
    rng: random.Random
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=5.0, cap_s=AGAIN_S))
    _commit: str = ""
    _outside: bool = False
    _tries: int = 0
    _read_to: int = 0
    _not_before_s: float = 0.0
    _in_any_case_s: float = 0.0

    def forget(self) -> None:
        """Whatever was tried is due now."""
        self._commit = ""

    def tried(self, commit: str, event_id: int, *, outside: bool) -> None:
        """In vain. `event_id`: what was known then. `outside`: whether an event may help."""
        self._tries = self._tries + 1 if commit == self._commit else 1
        self._commit, self._outside, self._read_to = commit, outside, event_id
        now_s = self.clock.now_s()
        self._not_before_s = now_s + self.backoff.delay_s(self._tries, self.rng)
        self._in_any_case_s = now_s + AGAIN_S * (1 + JITTER * self.rng.random())

    async def is_due(self, commit: str) -> bool:
        now_s = self.clock.now_s()
        if commit != self._commit or now_s >= self._in_any_case_s:
            return True
        return self._outside and now_s >= self._not_before_s and await self._may_be_free()

    async def _may_be_free(self) -> bool:
        """Looks at every event once, or at none when there are too many to look at."""
        head = (await self.log.head()).last_event_id
        events = await self.log.read(self._read_to, limit=EVENTS_MAX, only=_FREEING, upto=head)
        if len(events) >= EVENTS_MAX or may_have_freed(events, self.source_id):
            return True
        self._read_to = head
        return False
