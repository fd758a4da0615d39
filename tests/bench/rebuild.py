"""How fast all views are folded anew from the log, beside reading the same rows and doing nothing; and the memory."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler.core.views import PROJECTIONS
from reconciler.store import log_pages
from reconciler.store.server import SUPERUSER, EmbeddedServer
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.bench.log_filling import fill

TITLE = "rebuild: a log of instances' lives folded into all views in one pass, readers undisturbed"
EVENTS = int(os.environ.get("TRUEUP_BENCH_EVENTS", "1000000"))
ROUNDS = 2


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
        async with opened_store(StoreSettings(state_dir=Path(folder))) as store:
            superuser = EmbeddedServer(Path(folder) / "postgres")
            superuser.start()  # joins the store's server
            try:
                return await _measure(store, superuser.url(SUPERUSER, "trueup"), progress)
            finally:
                superuser.close()


async def _measure(store: Store, superuser_url: str, progress: Callable[[str], None]) -> dict[str, Any]:
    peaks_mib = []
    for count in (EVENTS // 4, EVENTS):
        await fill(superuser_url, count)
        progress(f"{count} events are there")
        await store.rebuild_views(PROJECTIONS)  # what follows compares full views and writes nothing
        peaks_mib.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    best, ratio, cpu_us = 0.0, 0.0, float("inf")
    for _ in range(ROUNDS):
        read = EVENTS / await _timed(_read(store))
        started = time.process_time()
        rate = EVENTS / await _timed(store.rebuild_views(PROJECTIONS))
        cpu_us = min(cpu_us, (time.process_time() - started) / EVENTS * 1e6)
        progress(f"{rate:.0f} events/s, reading alone {read:.0f}/s")
        best, ratio = max(best, rate), max(ratio, rate / read)
    verified = EVENTS / await _timed(store.rebuild_views(PROJECTIONS, verify=True))
    return {
        "events": EVENTS,
        "events_per_s": round(best),
        "ratio_read": round(ratio, 3),
        "cpu_us_per_event": round(cpu_us, 2),
        "verify_events_per_s": round(verified),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rss_growth_mib": round(peaks_mib[1] - peaks_mib[0]),
    }


async def _read(store: Store) -> None:
    async for _ in log_pages.pages(store._pool, 0, EVENTS):
        pass


async def _timed(work: Any) -> float:
    started = time.monotonic()
    await work
    return time.monotonic() - started
