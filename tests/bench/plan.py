"""What a commit that changes one file costs, by the size of the repository that it is in.

Each repository is applied by one process; another one, as a controller that was started anew, applies one commit after
the other: diff, validate, plan, guard, append. The fetch before that is told apart. `peak_rss_mib` is that of this
second process from its start, `reader_peak_rss_mib` that of its reading process.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.monorepo import Monorepo, own_peak_mib, p95_ms, running

TITLE = "plan: one changed file in an applied repository of 100, 1,000 and 10,000 apps, to the appended events"
SIZES = (100, 1_000, 10_000)
WARM_UPS = 5
COMMITS = 60


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    figures: dict[str, Any] = {"commits": COMMITS}
    for apps in SIZES:
        with tempfile.TemporaryDirectory(prefix="trueup-") as name:
            folder = Path(name)
            repository = Monorepo.of(folder / "repository", apps)
            repository.pack()
            async with running(folder / "state", repository.path) as parts:
                await parts.apply()
                await parts.caught_up()
            progress(f"{apps} apps are applied")
            found = await _in_another_process(folder)
            progress(f"p95 {found['p95_ms']} ms, fetches beside it {found['fetch_p95_ms']} ms")
        last = apps == SIZES[-1]
        figures |= {(key if last else f"{key}_{apps}"): value for key, value in found.items()}
    return figures


async def _in_another_process(folder: Path) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.plan", str(folder), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, "the commits were not applied"
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


async def _measure(folder: Path) -> dict[str, Any]:
    repository = Monorepo.at(folder / "repository")
    fetches: list[float] = []
    seconds: list[float] = []
    async with running(folder / "state", repository.path) as parts:
        for number, name in enumerate(sorted(repository.levels)[: WARM_UPS + COMMITS]):
            repository.change([name], f"level {number}")
            fetched_s, applied_s = await parts.apply()
            await parts.caught_up()
            if number >= WARM_UPS:
                fetches.append(fetched_s)
                seconds.append(applied_s)
        return {
            "p50_ms": round(statistics.median(seconds) * 1000, 1),
            "p95_ms": p95_ms(seconds),
            "fetch_p95_ms": p95_ms(fetches),
            "peak_rss_mib": round(own_peak_mib()),
            "reader_peak_rss_mib": round(parts.reader_peak_mib()),
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(Path(sys.argv[1])))), flush=True)
