"""How fast a webhook is answered, with 10,000 apps in the views: GitHub's form, over loopback, by the real controller.

Postgres, views, loops and HTTP run in this process; the forge is another one, so that its work is not counted as ours.
The apps are declared by a commit that this controller has applied; there is no node, so that the scheduler looks at all
of them in each pass and can place none. Twice: as many hooks as go through at once, and a steady trickle for longer
than the scheduler's full pass takes to come round, so that passes over all apps fall into it. `p99_ms` is the worse of
the two.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from reconciler import bootstrap
from reconciler.server.limits import Limits, Rate
from reconciler.settings import ControllerSettings
from reconciler.store.server import SUPERUSER, EmbeddedServer
from tests.bench.monorepo import Monorepo

TITLE = "webhook: signed hooks of 8 KiB answered, with 10,000 apps in the views"
APPS = int(os.environ.get("TRUEUP_BENCH_APPS", "10000"))
HOOKS = 5000
AT_ONCE = 8
TRICKLE_S = 35.0
TRICKLE_PER_S = 100
BODY_BYTES = 8 << 10
SECRET = "a webhook secret of thirty bytes"
DEADLINE_S = 300.0

DECLARED = "SELECT count(*) FROM trueup.view_resources WHERE doc ->> 'kind' = 'app'"


class _Unhurried(ControllerSettings):
    """All hooks are of one source and come from one address, many more than its budget."""

    @property
    def http_limits(self) -> Limits:
        return replace(super().http_limits, webhook_rate=Rate(HOOKS, 2 * HOOKS))


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trueup-") as name:
        folder = Path(name)
        repository = Monorepo.of(folder / "repository", APPS)
        repository.pack()
        secret = folder / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        settings = _Unhurried(
            repository=str(repository.path), state=folder / "state", listen="127.0.0.1:0", webhook_secret_file=secret
        )
        stop = asyncio.Event()
        controller = asyncio.create_task(bootstrap.run(settings, stop))
        try:
            return await _measure(settings.state, controller, progress)
        finally:
            stop.set()
            await controller


async def _measure(state: Path, controller: asyncio.Task[None], progress: Callable[[str], None]) -> dict[str, Any]:
    published, deadline = state / "controller.url", time.monotonic() + DEADLINE_S
    while not published.exists():
        assert not controller.done() and time.monotonic() < deadline, "the controller does not start"
        await asyncio.sleep(0.1)
    superuser = EmbeddedServer(state / "postgres")
    await asyncio.to_thread(superuser.start)  # joins the controller's server
    try:
        connection = await asyncpg.connect(superuser.url(SUPERUSER, "trueup"))
        while await connection.fetchval(DECLARED) < APPS:
            assert not controller.done() and time.monotonic() < deadline, "the commit is not applied"
            await asyncio.sleep(0.5)
        await connection.close()
    finally:
        await asyncio.to_thread(superuser.close)
    progress(f"{APPS} apps are in the views")
    seconds, burst_ms, trickle_ms = await _hooks_of_another_process(published.read_text().strip())
    progress(f"{HOOKS} hooks in {seconds:.1f} s, then {len(trickle_ms)} in {TRICKLE_S:.0f} s")
    return {
        "apps": APPS,
        "p50_ms": round(statistics.median(trickle_ms), 2),
        "p99_ms": round(max(_p99(burst_ms), _p99(trickle_ms)), 2),
        "burst_p99_ms": round(_p99(burst_ms), 2),
        "trickle_p99_ms": round(_p99(trickle_ms), 2),
        "max_ms": round(max(*burst_ms, *trickle_ms), 2),
        "per_s": round(HOOKS / seconds),
    }


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


async def _hooks_of_another_process(url: str) -> tuple[float, list[float], list[float]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.webhook", url, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, "the hooks were not answered"
    seconds, burst_ms, trickle_ms = json.loads(output)
    return seconds, burst_ms, trickle_ms


async def _send(url: str) -> None:
    """In the other process."""
    body = b"x" * BODY_BYTES
    signed = {"X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}
    async with aiohttp.ClientSession() as session:

        async def hook_ms(since_s: float) -> float:
            async with session.post(f"{url}/v1/sources/main/webhook", data=body, headers=signed) as answer:
                assert answer.status == 202, answer.status
            return (time.monotonic() - since_s) * 1000

        async def submit(count: int) -> list[float]:
            return [await hook_ms(time.monotonic()) for _ in range(count)]

        started_s = time.monotonic()
        bursts = await asyncio.gather(*(submit(HOOKS // AT_ONCE) for _ in range(AT_ONCE)))
        seconds, started_s = time.monotonic() - started_s, time.monotonic()
        trickle = []
        for number in range(int(TRICKLE_S * TRICKLE_PER_S)):
            due_s = started_s + number / TRICKLE_PER_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            trickle.append(asyncio.create_task(hook_ms(due_s)))  # from when it was due, so that a stall counts in full
        trickle_ms = await asyncio.gather(*trickle)
    print(json.dumps([seconds, [each for burst in bursts for each in burst], trickle_ms]))


if __name__ == "__main__":
    asyncio.run(_send(sys.argv[1]))
