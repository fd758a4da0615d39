"""How long a microVM takes from the start of its process until it serves, with the image on the node."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.ports import MachineDriver
from tests.contracts.test_vm_driver import ID, Rig, qemu_rig, run_folder

TITLE = "boot: a 128 MiB guest under software emulation, from process start to its first answer"
BOOTS = 5
DEADLINE_S = 60.0
POLL_S = 0.02


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    started, serving = [], []
    for number in range(BOOTS):
        with tempfile.TemporaryDirectory(prefix="tub-") as folder:
            started_s, serving_s = await boot(await qemu_rig(Path(folder)))
        started.append(started_s * 1000)
        serving.append(serving_s * 1000)
        progress(f"boot {number + 1}: process of the workload after {started_s:.2f} s, serving after {serving_s:.2f} s")
    return {
        "accelerator": "tcg",
        "boots": BOOTS,
        "started_p50_ms": round(statistics.median(started)),
        "serving_p50_ms": round(statistics.median(serving)),
        "serving_max_ms": round(max(serving)),
    }


async def boot(rig: Rig) -> tuple[float, float]:
    driver = rig.driver()
    try:
        begun = time.monotonic()
        await driver.ensure(rig.spec)
        await until(lambda: is_started(driver), begun)
        started_s = time.monotonic() - begun
        await until(lambda: asyncio.to_thread(rig.answers), begun)
        return started_s, time.monotonic() - begun
    finally:
        await driver.kill(ID)
        await driver.remove(ID)
        await driver.close()
        shutil.rmtree(run_folder(), ignore_errors=True)


async def is_started(driver: MachineDriver) -> bool:
    return (await driver.observe(ID)).started


async def until(holds: Callable[[], Any], begun: float) -> None:
    while not await holds():
        assert time.monotonic() - begun < DEADLINE_S, f"no answer within {DEADLINE_S:.0f} s"
        await asyncio.sleep(POLL_S)
