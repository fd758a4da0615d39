"""Keeps the views behind the log: the loop that folds new events into every view.

Started by `reconciler.bootstrap`; the pages are `reconciler.store.view_writer`. Woken by the tail of the log, and each
second without it; every pass reads the checkpoints again, so nothing is remembered that could be wrong. A projection
that fails waits with a backoff of its own; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from reconciler.ports import EventLog

IDLE_S = 1.0
"""A pass at least this often: a lost wake-up costs no more."""

_log = logs.get("projector")


class Pages(Protocol):
    async def apply_pages(self, names: Iterable[str]) -> Mapping[str, int | Exception]:
        """Moves each view forward by a page: the number of its events, 0 at the end of the log, or its failure."""
        ...


@dataclass(slots=True)
class _Trouble:
    failures: int = 0
    not_before_s: float = 0.0


@dataclass(slots=True)
class Projector:
    log: EventLog
    pages: Pages
    views: Iterable[str]
    clock: Clock
    rng: random.Random
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.1, cap_s=10.0))
    _troubles: dict[str, _Trouble] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Ends between two pages, so nothing is half done."""
        while not stop.is_set():
            head = await self.log.wait_past(-1, 0)  # before the pass: what comes during it wakes the next one
            if not await self.catch_up():
                await self._rest(head, stop)

    async def catch_up(self) -> bool:
        """One page for every view that may be tried. True: there may be more at once."""
        now_s, never = self.clock.now_s(), _Trouble()
        due = [name for name in self.views if self._troubles.get(name, never).not_before_s <= now_s]
        try:
            done = await self.pages.apply_pages(due)
        except Exception as error:  # such as no database: it is the same for all
            done = dict.fromkeys(due, error)
        for name, result in done.items():
            if isinstance(result, Exception):
                self._failed(name, result)
            else:
                self._troubles.pop(name, None)
        return any(isinstance(result, int) and result > 0 for result in done.values())

    def _failed(self, name: str, error: Exception) -> None:
        trouble = self._troubles.setdefault(name, _Trouble())
        trouble.failures += 1
        delay_s = self.backoff.delay_s(trouble.failures, self.rng)
        trouble.not_before_s = self.clock.now_s() + delay_s
        _log.warning("a view does not move", view=name, failures=trouble.failures, next_try_s=delay_s, why=str(error))

    async def _rest(self, head: int, stop: asyncio.Event) -> None:
        """Until the log has moved past `head`, a failed view is due again, `stop`, or the idle time is over."""
        due_s = min((each.not_before_s for each in self._troubles.values()), default=self.clock.now_s() + IDLE_S)
        left_s = min(max(due_s - self.clock.now_s(), 0.01), IDLE_S)
        moved = asyncio.ensure_future(self.log.wait_past(head, left_s))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((moved, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (moved, stopped):
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting
