"""Ends the acts whose time has come. Run by the holder of the lease "acts".

An act that was given an end is in force until its end is in the log: this loop's clock says when to append that, and
nothing else looks at a clock. A controller that was down ends late what ended meanwhile, never early.
"""

from __future__ import annotations

import asyncio
import random
from datetime import datetime

from kit import logs
from kit.backoff import Backoff
from kit.canonical import digest
from kit.clock import Clock
from kit.errors import TrueupError
from kit.waiting import first_of
from reconciler.core.acts import Doc, Order, ending, is_over
from reconciler.core.commands import Fence
from reconciler.handlers import Handlers
from reconciler.ports import Views

LOOK_EVERY_S = 2.0
ACTOR = "acts"
REASON = "its time is over"

_log = logs.get("acts")


class Expiry:
    def __init__(
        self, handlers: Handlers, views: Views, clock: Clock, rng: random.Random, *, look_every_s: float = LOOK_EVERY_S
    ) -> None:
        self._handlers = handlers
        self._views = views
        self._clock = clock
        self._rng = rng
        self._look_every_s = look_every_s
        self._backoff = Backoff(first_s=0.5, cap_s=30.0)

    async def run(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set. `fence`: of the term in which it runs."""
        failures = 0
        while not stop.is_set():
            delay_s = self._look_every_s
            try:
                await self.look(fence)
                failures = 0
            except Exception as error:
                failures += 1
                delay_s = max(delay_s, self._backoff.delay_s(failures, self._rng))
                known = isinstance(error, TrueupError)
                _log.error("look failed", failures=failures, why=str(error), exc=None if known else error)
            await first_of(stop.wait(), self._clock.sleep(delay_s))

    async def look(self, fence: Fence | None = None) -> None:
        """One look at all acts. One that cannot be ended stops only itself."""
        rows = (await self._views.snapshot(("acts",))).rows["acts"]
        now = datetime.fromisoformat(self._clock.utc())
        for key, row in sorted(rows.items()):
            if is_over(row, now):
                await self._end(key, row, fence)

    async def _end(self, key: str, row: Doc, fence: Fence | None) -> None:
        version = [key, row["aggregate_seq"]]
        order = Order(f"act-over-{digest(version, length=32)}", digest(version), "system", ACTOR, REASON)
        try:
            await self._handlers.act(ending(key, row), order, fence)
        except TrueupError as error:
            _log.warning("act not ended", key=key, why=str(error))
