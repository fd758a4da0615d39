"""A process that is killed at any point between an effect and its cursor: nothing is lost, and order is kept."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest

from kit.cursors import CursorFile
from reconciler.core.events import NewEvent
from reconciler.server.limits import Limits
from reconciler.store.store import Store
from tests.integration.kit.consumers import OPS
from tests.integration.kit.killed_consumer import LAST
from tests.twin import append
from tests.unit.server.readers import some_event
from tests.unit.server.world import serving

ROOT = Path(__file__).parents[3]
SMALL = Limits(stream_chunk_bytes_max=2_000, bookmark_every_s=0.1)


async def write(store: Store, rng: random.Random, done: asyncio.Event) -> None:
    """Until `done`; then the event that all wait for."""
    number = 0
    while not done.is_set():
        size = rng.choice([1, 1, 2, 3, 20])
        await append(store.log, f"c-{number}", *(some_event(rng, number + index) for index in range(size)))
        number += size
        await asyncio.sleep(rng.random() * 0.03)
    payload = {"resource_id": LAST, "node_id": "node-a"}
    await append(store.log, "last", NewEvent("volume", LAST, "volume.placed", payload))


@pytest.mark.parametrize("seed", range(3))
async def test_a_killed_consumer_repeats_and_never_skips(store: Store, tmp_path: Path, seed: int) -> None:
    log_id = (await store.log.head()).log_id
    await CursorFile(tmp_path / "cursor", {}).save(f"{log_id}.0")
    async with serving(SMALL, store.log, store.views) as world:
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(1.0, done.set)
        command = ["-m", "tests.integration.kit.killed_consumer", world.url, OPS, str(tmp_path), str(seed)]
        consumer = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT)
        try:
            async with asyncio.timeout(25):
                await write(store, random.Random(seed), done)
                assert await consumer.wait() == 0
        finally:
            if consumer.returncode is None:
                consumer.kill()
                await consumer.wait()
    last = (await store.log.head()).last_event_id
    check((tmp_path / "effect").read_text().splitlines(), last)


def check(lines: list[str], last: int) -> None:
    """Each event directly behind the one before; after a kill it may go back, as far as the cursor and no further."""
    newest, before, kills, repeated = 0, 0, 0, 0
    for line in lines:
        if line.startswith("killed"):
            cursor = int(line.rpartition(".")[2])
            assert cursor <= newest, "a cursor is never ahead of the effect"
            before = cursor
            kills += 1
            continue
        assert int(line) == before + 1
        repeated += int(line) <= newest
        before = int(line)
        newest = max(newest, before)
    assert newest == last
    assert kills >= 5
    assert repeated > 0
