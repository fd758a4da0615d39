"""How long the first commit of a large repository takes: the reading of it alone, then all of it, to appended events.

`peak_rss_mib` is that of the reading process; `controller_growth_mib` is what the reading adds to the process beside
it; `controller_peak_mib` is that process at its largest, when the commit is applied and all views are as far.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler.core.revisions import Source
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import BoundedSource
from reconciler.vault import resolve_offline
from tests.bench.monorepo import Monorepo, own_peak_mib, peak_mib, running

TITLE = "cold: the first commit of a repository with 10,000 apps, read, and applied"
APPS = 10_000


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trueup-") as name:
        folder = Path(name)
        repository = await asyncio.to_thread(Monorepo.of, folder / "repository", APPS)
        repository.pack()
        progress(f"made a repository of {APPS} apps")
        figures = await asyncio.to_thread(_read, repository.path, repository.head)
        progress(f"read in {figures['seconds']} s")
        return figures | await _apply(folder / "state", repository.path, progress)


def _read(path: Path, commit: str) -> dict[str, Any]:
    reading = ReadingProcess()
    bounded = BoundedSource(path, Source("main", "o", "p", str(path)), resolve_offline, reading)
    before_mib = own_peak_mib()
    started = time.monotonic()
    found = bounded.reader.read(commit)
    seconds = time.monotonic() - started
    assert len(found.tree.resources) == APPS + 1, found.findings
    assert reading.pid
    child_mib = peak_mib(reading.pid)
    bounded.close()
    return {
        "apps": APPS,
        "seconds": round(seconds, 1),
        "peak_rss_mib": round(child_mib),
        "controller_growth_mib": round(own_peak_mib() - before_mib),
    }


async def _apply(state: Path, repository: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """What one pass of the Git loop does, from the empty clone on."""
    async with running(state, repository) as parts:
        fetched_s, applied_s = await parts.apply()
        progress(f"fetched in {fetched_s:.1f} s, events after {applied_s:.1f} s more")
        started = time.monotonic()
        await parts.caught_up()
        views_s = time.monotonic() - started
        events = (await parts.store.log.head()).last_event_id
    return {
        "fetch_s": round(fetched_s, 1),
        "commit_to_events_s": round(applied_s, 1),
        "events_to_views_s": round(views_s, 1),
        "events": events,
        "controller_peak_mib": round(own_peak_mib()),
    }
