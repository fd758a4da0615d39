"""Exports the head of the log on and on. Run by the holder of the lease "heads"; wired by `reconciler.bootstrap`.

Nothing that goes wrong here ends anything: `trouble` says what it is, to `trueup status` and /readyz, until an export
has gone through. Exports come `interval_s` apart, with jitter; after a failure sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

from kit import logs
from kit.backoff import Backoff
from kit.errors import Bug, TrueupError
from reconciler.core.commands import Fence

JITTER = 0.1

_log = logs.get("heads")


class HeadExport:
    def __init__(self, export: Callable[[], Awaitable[int]], rng: random.Random, *, interval_s: float) -> None:
        self._export = export
        self._rng = rng
        self._interval_s = interval_s
        self._backoff = Backoff(first_s=min(1.0, interval_s), cap_s=interval_s)
        self.trouble = ""

    async def run(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set. The term's fence is not needed: nothing is appended, and a head that an older holder
        still exports is as true as any."""
        failures, exported = 0, -1
        while not stop.is_set():
            try:
                event_id = await self._export()
            except Exception as error:
                failures += 1
                self._failed(error, failures)
                delay_s = self._backoff.delay_s(failures, self._rng)
            else:
                if event_id != exported or failures:
                    _log.info("head exported", event_id=event_id)
                failures, exported, self.trouble = 0, event_id, ""
                delay_s = self._interval_s * (1 + JITTER * self._rng.random())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await stop.wait()
        self.trouble = ""

    def _failed(self, error: Exception, failures: int) -> None:
        told = error if isinstance(error, TrueupError) else Bug("export the head of the log", repr(error))
        self.trouble = str(told)
        _log.warning("head not exported", failures=failures, why=self.trouble)
