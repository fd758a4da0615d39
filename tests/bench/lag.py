"""How late the views are: from the acknowledgement of an append to the moment when every view shows it."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kit.clock import SystemClock
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.views import PROJECTIONS
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from reconciler.tasks.projector import Projector
from tests.unit.projections.samples import new_event

TITLE = "lag: 1000 events/s sustained, append acknowledged to visible in every view"
SECONDS = 20.0
EVENTS_PER_S = 1_000
EVENTS_PER_COMMAND = 5
CAUSE = Cause("system", "bench", "default")


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
        async with opened_store(StoreSettings(state_dir=Path(folder))) as store:
            stop = asyncio.Event()
            rng = random.Random(1)
            projector = Projector(store.log, store.writer, tuple(PROJECTIONS), SystemClock(), rng)
            running = asyncio.create_task(projector.run(stop))
            try:
                lags_s, appended, took_s = await _append(store, progress)
            finally:
                stop.set()
                await running
    return {
        "p99_ms": round(statistics.quantiles(lags_s, n=100)[98] * 1000, 1),
        "p50_ms": round(statistics.median(lags_s) * 1000, 1),
        "max_ms": round(max(lags_s) * 1000, 1),
        "events_per_s": round(appended / took_s),
    }


async def _append(store: Store, progress: Callable[[str], None]) -> tuple[list[float], int, float]:
    """Commands at a fixed rhythm; a late one is not left out, and its lag counts from its own acknowledgement."""
    lags_s: list[float] = []
    waiting: set[asyncio.Task[None]] = set()
    started, period_s = time.monotonic(), EVENTS_PER_COMMAND / EVENTS_PER_S

    async def visible(event_id: int, acknowledged: float) -> None:
        await store.views.wait_for(event_id, PROJECTIONS, 30.0)
        lags_s.append(time.monotonic() - acknowledged)

    count = int(SECONDS / period_s)
    for number in range(count):
        await asyncio.sleep(max(0.0, started + number * period_s - time.monotonic()))
        command = Append(f"bench-{number}", "same", CAUSE, tuple(_events(number)), {})
        (result,) = await store.log.append([command])
        task = asyncio.create_task(visible(result.last_event_id, time.monotonic()))  # type: ignore[union-attr]  # nothing conflicts
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        if number % 1_000 == 999:
            progress(f"{number + 1} of {count} commands")
    took_s = time.monotonic() - started
    await asyncio.gather(*waiting)
    return lags_s, count * EVENTS_PER_COMMAND, took_s


def _events(number: int) -> list[NewEvent]:
    """An instance is allocated and reports."""
    name = f"i-{number % 2_000}"
    reports = [
        new_event("instance.status_changed", instance_id=name, status=status, counter=counter)
        for counter, status in enumerate(("preparing", "booting", "unready", "ready"), start=1)
    ]
    return [new_event("instance.allocated", instance_id=name), *reports]
