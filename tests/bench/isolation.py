"""Whether one failing app slows down the others: the same commits with one app held back, and with none.

A round: one app's manifest is broken, so that it is held back; another app is changed, and timed; the broken one is
mended; another app is changed, and timed. So both kinds are measured side by side in one run. `ratio_failing` is the
median with the failing app by the median without; `p95_ms` is with it. Times are from the commit in the clone to the
appended events of the app that was changed; the fetch before that is the same for both, and is left out.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.monorepo import Monorepo, p95_ms, running

TITLE = "isolation: one changed app of 3,000, with another app failing and held back, and with none"
APPS = 3_000
ROUNDS = 40
WARM_UPS = 3
BROKEN = 'info", replicas: "many'
"""As a level it ends the text that it stands in; what follows is no good there."""


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    logging.disable(logging.WARNING)  # each commit says what it holds back
    failing: list[float] = []
    healthy: list[float] = []
    with tempfile.TemporaryDirectory(prefix="trueup-") as name:
        folder = Path(name)
        repository = Monorepo.of(folder / "repository", APPS)
        repository.pack()
        bad, *others = sorted(repository.levels)
        async with running(folder / "state", repository.path) as parts:

            async def applied_s(app: str, level: str) -> float:
                repository.change([app], level)
                _, seconds = await parts.apply()
                await parts.caught_up()
                return seconds

            await parts.apply()
            await parts.caught_up()
            progress(f"{APPS} apps are applied")
            for number, app in enumerate(others[: WARM_UPS + ROUNDS]):
                await applied_s(bad, BROKEN)
                assert await parts.held() == 1
                with_s = await applied_s(app, f"with {number}")
                await applied_s(bad, f"mended {number}")
                assert await parts.held() == 0
                without_s = await applied_s(app, f"without {number}")
                if number >= WARM_UPS:
                    failing.append(with_s)
                    healthy.append(without_s)
    return {
        "apps": APPS,
        "rounds": ROUNDS,
        "p50_ms": round(statistics.median(failing) * 1000, 1),
        "p95_ms": p95_ms(failing),
        "p50_ms_healthy": round(statistics.median(healthy) * 1000, 1),
        "p95_ms_healthy": p95_ms(healthy),
        "ratio_failing": round(statistics.median(failing) / statistics.median(healthy), 2),
    }
