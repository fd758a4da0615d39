"""How fast commands become events, beside plain unordered inserts of the same rows on the same Postgres."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from kit.canonical import canonical_json
from reconciler.core.commands import Append, Appended
from reconciler.core.events import Cause, NewEvent
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, open_store

TITLE = "append: single-event commands, ids dense and in commit order, dedup on"
SECONDS_PER_ROUND = 3.0
ROUNDS = 3
SUBMITTERS = (1, 32)
CAUSE = Cause("system", "bench", "default")
PLAIN = "INSERT INTO plain_events (aggregate_type, aggregate_id, event_type, payload) VALUES ($1, $2, $3, $4::jsonb)"
TABLE = """CREATE TABLE plain_events (event_id bigserial PRIMARY KEY, occurred_at timestamptz DEFAULT now(),
aggregate_type text, aggregate_id text, event_type text, payload jsonb)"""


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with opened() as (store, pool):
        for submitters in SUBMITTERS:
            ratios, rates, latencies = [], [], []
            for number in range(ROUNDS):
                plain, _ = await measure(submitters, lambda name: insert(pool, name))
                ours, taken = await measure(submitters, lambda name: append(store, name))
                ratios.append(ours / plain)
                rates.append(ours)
                latencies += taken
                progress(f"{submitters} submitters, round {number + 1}: {ours:.0f} events/s, plain {plain:.0f}/s")
            key = "one" if submitters == 1 else str(submitters)
            figures[f"ratio_{key}"] = round(statistics.median(ratios), 3)
            figures[f"events_per_s_{key}"] = round(statistics.median(rates))
            figures[f"p99_ms_{key}"] = round(statistics.quantiles(latencies, n=100)[98] * 1000, 2)
    return figures


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[tuple[Store, asyncpg.Pool[Any]]]:
    with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
        store = await open_store(StoreSettings(state_dir=Path(folder)))
        pool = await asyncpg.create_pool(store.access.owner_url, min_size=max(SUBMITTERS), max_size=max(SUBMITTERS))
        try:
            await pool.execute(TABLE)
            yield store, pool
        finally:
            await pool.close()
            await store.close()


async def measure(submitters: int, once: Callable[[str], Awaitable[None]]) -> tuple[float, list[float]]:
    """Operations per second and each one's seconds, with so many submitters that each wait for their own answer."""
    deadline, taken = time.monotonic() + SECONDS_PER_ROUND, []

    async def submit(name: str) -> None:
        while (started := time.monotonic()) < deadline:
            await once(name)
            taken.append(time.monotonic() - started)

    started = time.monotonic()
    await asyncio.gather(*(submit(f"node-{number}") for number in range(submitters)))
    return len(taken) / (time.monotonic() - started), taken


def event(name: str) -> NewEvent:
    payload = {"node_id": name, "state": "active", "reason": "a benchmark says so, at some length, as reasons do"}
    return NewEvent("node", name, "node.state_changed", payload)


async def insert(pool: asyncpg.Pool[Any], name: str) -> None:
    new = event(name)
    await pool.execute(
        PLAIN, new.aggregate_type, new.aggregate_id, new.event_type, canonical_json(new.payload).decode()
    )


_numbers = iter(range(1 << 62))


async def append(store: Store, name: str) -> None:
    command = Append(f"bench-{next(_numbers)}", "same", CAUSE, (event(name),), {})
    (result,) = await store.log.append([command])
    assert isinstance(result, Appended), result
