"""How long one commit that changes a thousand apps takes, from the commit in the clone to its events in the log."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.monorepo import Monorepo, running

TITLE = "commit_1000: one commit that changes 1,000 of 10,000 apps"
APPS = 10_000
CHANGED = 1_000
COMMITS = 3


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    seconds: list[float] = []
    fetches: list[float] = []
    with tempfile.TemporaryDirectory(prefix="trueup-") as name:
        folder = Path(name)
        repository = Monorepo.of(folder / "repository", APPS)
        repository.pack()
        async with running(folder / "state", repository.path) as parts:
            await parts.apply()
            await parts.caught_up()
            progress(f"{APPS} apps are applied")
            for number in range(COMMITS):
                repository.change(sorted(repository.levels)[:CHANGED], f"level {number}")
                fetched_s, applied_s = await parts.apply()
                fetches.append(fetched_s)
                seconds.append(applied_s)
                progress(f"{CHANGED} changed: fetched in {fetched_s:.1f} s, events after {applied_s:.1f} s more")
                await parts.caught_up()
    return {
        "apps": APPS,
        "changed": CHANGED,
        "commit_to_events_s": round(statistics.median(seconds), 2),
        "max_s": round(max(seconds), 2),
        "fetch_s": round(statistics.median(fetches), 2),
    }
