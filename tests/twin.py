"""The log and the views in memory: they obey `reconciler.ports` and use the real placement and the real projections.

For tests of what stands on the ports. Whatever they can be asked is answered as the Postgres ones answer it;
tests/integration/server runs the same tests with those.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kit.errors import Transient
from reconciler.core.commands import Append, Appended, AppendResult
from reconciler.core.event_filter import matches
from reconciler.core.events import Cause, Event, NewEvent
from reconciler.core.replay import apply
from reconciler.core.views import PROJECTIONS
from reconciler.ports import Doc, EventFilter, Head, ViewSnapshot
from reconciler.store.placement import Known, nothing_appended, place

SYSTEM = Cause("system", "test", "default")


class MemoryLog:
    def __init__(self, log_id: str = "log-1") -> None:
        self.events: list[Event] = []
        self.reads = 0
        self.broken = False
        self.gate = asyncio.Event()
        """Reads wait here while it is not set."""
        self.gate.set()
        self.waiting_at_gate = 0
        self._known = Known(log_id, 0)
        self._grown = asyncio.Event()

    async def append(self, batch: Sequence[Append], *, atomic: bool = True) -> list[AppendResult]:
        known = self._known.copy() if atomic else self._known
        placement = place(batch, known)
        if atomic and placement.conflicts:
            return nothing_appended(placement.results)
        self._known = known
        for placed in placement.events:
            new = placed.event
            self.events.append(
                Event(
                    placed.event_id,
                    f"2026-01-01T00:00:{placed.event_id % 60:02d}.000Z",
                    new.aggregate_type,
                    new.aggregate_id,
                    placed.aggregate_seq,
                    new.event_type,
                    new.event_version,
                    placed.command_id,
                    placed.cause,
                    new.payload,
                )
            )
        self._grown.set()
        self._grown = asyncio.Event()
        return placement.results

    async def read(
        self, after: int, *, limit: int, only: EventFilter | None = None, upto: int | None = None
    ) -> list[Event]:
        self.waiting_at_gate += 1
        await self.gate.wait()
        self.waiting_at_gate -= 1
        await asyncio.sleep(0)
        self.reads += 1
        self._check()
        end = len(self.events) if upto is None else upto
        found = [event for event in self.events[after:end] if only is None or matches(event, only)]
        return found[-limit:] if only is not None and only.newest else found[:limit]

    async def head(self) -> Head:
        self._check()
        return Head(self._known.log_id, len(self.events))

    async def wait_past(self, event_id: int, timeout_s: float) -> int:
        self._check()
        grown = self._grown
        if len(self.events) <= event_id:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):  # wait_for of Python 3.11 may lose a cancellation
                    await grown.wait()
        return len(self.events)

    def become_another(self, log_id: str) -> None:
        """As after a restore from an older backup."""
        self.events.clear()
        self._known = Known(log_id, 0)
        self._grown.set()
        self._grown = asyncio.Event()

    def _check(self) -> None:
        if self.broken:
            raise Transient("read the log", "the database is away", code="unavailable")


class MemoryViews:
    """Follows the log by itself up to `held_at`, when that is set."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.held_at: int | None = None
        self.begin_anew()

    def begin_anew(self) -> None:
        """The log has become another one."""
        self._rows: dict[str, dict[str, Doc]] = {name: {} for name in PROJECTIONS}
        self._applied = 0

    async def get(self, view: str, key: str) -> Doc | None:
        return self._now()[view].get(key)

    async def snapshot(self, views: Iterable[str]) -> ViewSnapshot:
        rows = self._now()
        named: dict[str, Mapping[str, Doc]] = {view: dict(rows[view]) for view in views}
        return ViewSnapshot(self._applied, (await self._log.head()).log_id, named)

    async def wait_for(self, event_id: int, views: Iterable[str], timeout_s: float) -> None:
        self._now()
        if self._applied < event_id:
            raise Transient(
                f"wait {timeout_s:g} s for views {', '.join(views)} to reach event {event_id}",
                f"it is at event {self._applied}",
                code="projection_timeout",
            )

    async def checkpoints(self) -> dict[str, int]:
        self._now()
        return dict.fromkeys(PROJECTIONS, self._applied)

    def _now(self) -> dict[str, dict[str, Doc]]:
        end = len(self._log.events) if self.held_at is None else self.held_at
        for event in self._log.events[self._applied : end]:
            apply(self._rows, event)
            self._applied = event.event_id
        return self._rows


def command(command_id: str, *events: NewEvent, cause: Cause = SYSTEM) -> Append:
    return Append(command_id, command_id, cause, events, {})


async def append(log: Any, command_id: str, *events: NewEvent, cause: Cause = SYSTEM) -> int:
    """Returns the last event_id."""
    [result] = await log.append([command(command_id, *events, cause=cause)])
    assert isinstance(result, Appended), result
    return result.last_event_id
