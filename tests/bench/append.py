"""How fast commands become events, beside plain unordered inserts of the same rows on the same Postgres.

The plain table has the columns and indexes of the log, and nothing else: ids from a sequence, no order, no duplicates
found, no chain. Both sides hold their connections and reuse prepared statements; both encode the payload.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from kit.canonical import canonical_json
from reconciler.core.commands import Append, Appended, Conflict
from reconciler.core.events import Cause, NewEvent
from reconciler.store.roles import DATABASE
from reconciler.store.server import SUPERUSER
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, open_store
from tests.bench.rival_eventsourcing import Rival

TITLE = "append: single-event commands; ids dense and in commit order, dedup and hash chain on"
SECONDS_PER_ROUND = 1.0
ROUNDS = 5
SUBMITTERS = 32
BATCH_EVENTS = 100
CAUSE = Cause("system", "bench", "default")
TABLE = """CREATE TABLE plain_events (LIKE trueup.events INCLUDING INDEXES);
ALTER TABLE plain_events ALTER event_id ADD GENERATED ALWAYS AS IDENTITY, DROP COLUMN hash"""
COLUMNS = """occurred_at, aggregate_type, aggregate_id, aggregate_seq, event_type, event_version, command_id,
actor_type, actor_id, org_id, source_id, commit_id, path, line, correlation_id, causation_id, payload"""
PLAIN = f"""INSERT INTO plain_events ({COLUMNS}) VALUES (now(), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
$14, $15, $16::text::json)"""
PLAIN_MANY = f"""INSERT INTO plain_events ({COLUMNS}) SELECT now(), t, i, s, e, v, c, a, b, o, r, m, p, l, x, y,
z::json FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::int[], $6::text[], $7::text[],
$8::text[], $9::text[],
$10::text[], $11::text[], $12::text[], $13::int[], $14::text[], $15::bigint[], $16::text[])
u (t, i, s, e, v, c, a, b, o, r, m, p, l, x, y, z)"""

Once = Callable[[int], Awaitable[int]]
"""One operation of a submitter; returns how many events it made."""

_numbers = itertools.count(1)


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    async with opened() as bench:
        await measure(4, bench.append)  # plans and caches of both sides
        await measure(4, bench.insert)
        one = await compare(progress, "1 submitter", 1, bench.append, bench.insert)
        many = await compare(progress, "32 submitters", SUBMITTERS, bench.append, bench.insert)
        batches = await compare(progress, "32 submitters of 100", SUBMITTERS, bench.append_100, bench.insert_100)
        rival = await bench.rival_rate(progress)
        duplicates, _ = await measure(SUBMITTERS, bench.append_or_repeat)
        conflicts, _ = await measure(SUBMITTERS, bench.append_or_conflict)
    return {
        "ratio": many["ratio"],
        "ratio_one": one["ratio"],
        "ratio_batch": batches["ratio"],
        "ratio_eventsourcing": round(many["per_s"] / rival, 2),
        "events_per_s": many["per_s"],
        "events_per_s_one": one["per_s"],
        "events_per_s_batch": batches["per_s"],
        "p99_ms": many["p99_ms"],
        "p99_ms_one": one["p99_ms"],
        "commands_per_s_one_in_ten_duplicate": round(duplicates),
        "commands_per_s_one_in_ten_conflict": round(conflicts),
    }


async def compare(
    progress: Callable[[str], None], name: str, submitters: int, ours: Once, plain: Once
) -> dict[str, float]:
    """Interleaved rounds; the median of the rounds' ratios."""
    ratios, rates, latencies = [], [], []
    for number in range(ROUNDS):
        plain_per_s, _ = await measure(submitters, plain)
        per_s, taken = await measure(submitters, ours)
        ratios.append(per_s / plain_per_s)
        rates.append(per_s)
        latencies += taken
        progress(f"{name}, round {number + 1}: {per_s:.0f} events/s, plain {plain_per_s:.0f}/s")
    p99_ms = statistics.quantiles(latencies, n=100)[98] * 1000
    return {
        "ratio": round(statistics.median(ratios), 3),
        "per_s": round(statistics.median(rates)),
        "p99_ms": round(p99_ms, 2),
    }


async def measure(submitters: int, once: Once) -> tuple[float, list[float]]:
    """Events per second and each operation's seconds; each submitter waits for its own answer."""
    deadline, taken, made = time.monotonic() + SECONDS_PER_ROUND, [], 0

    async def submit(number: int) -> None:
        nonlocal made
        while (started := time.monotonic()) < deadline:
            events = await once(number)
            made += events
            taken.append(time.monotonic() - started)

    started = time.monotonic()
    await asyncio.gather(*(submit(number) for number in range(submitters)))
    return made / (time.monotonic() - started), taken


class Bench:
    def __init__(self, store: Store, connections: list[asyncpg.Connection[Any]], folder: Path) -> None:
        self._store = store
        self._connections = connections
        self._folder = folder

    async def append(self, number: int) -> int:
        return await self._appended(Append(f"bench-{next(_numbers)}", "same", CAUSE, (event(number),), {}))

    async def append_100(self, number: int) -> int:
        events = tuple(event(number) for _ in range(BATCH_EVENTS))
        return await self._appended(Append(f"bench-{next(_numbers)}", "same", CAUSE, events, {}))

    async def append_or_repeat(self, number: int) -> int:
        """One command in ten has been appended before."""
        command_id = f"bench-{next(_numbers)}" if next(_numbers) % 10 else "bench-again"
        await self._store.log.append([Append(command_id, "same", CAUSE, (event(number),), {})])
        return 1

    async def append_or_conflict(self, number: int) -> int:
        """One command in ten expects what is not so."""
        new = event(number)
        expected = {} if next(_numbers) % 10 else {(new.aggregate_type, new.aggregate_id): 1 << 40}
        (result,) = await self._store.log.append([Append(f"bench-{next(_numbers)}", "same", CAUSE, (new,), expected)])
        assert isinstance(result, Conflict) == bool(expected), result
        return 1

    async def insert(self, number: int) -> int:
        await self._connections[number].execute(PLAIN, *row(number))
        return 1

    async def insert_100(self, number: int) -> int:
        columns = zip(*(row(number) for _ in range(BATCH_EVENTS)), strict=True)
        await self._connections[number].execute(PLAIN_MANY, *columns)
        return BATCH_EVENTS

    async def rival_rate(self, progress: Callable[[str], None]) -> float:
        """Events per second of the library eventsourcing on the same server."""
        rival = Rival(superuser_url(self._store))
        rates = [await asyncio.to_thread(rival.rate, SUBMITTERS, SECONDS_PER_ROUND) for _ in range(ROUNDS)]
        progress(f"eventsourcing, {SUBMITTERS} submitters: {', '.join(f'{rate:.0f}' for rate in rates)} events/s")
        rival.close()
        return statistics.median(rates)

    async def _appended(self, command: Append) -> int:
        (result,) = await self._store.log.append([command])
        assert isinstance(result, Appended), result
        return len(command.events)


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
        store = await open_store(StoreSettings(state_dir=Path(folder)))
        owner = await asyncpg.connect(superuser_url(store))
        await owner.execute("CREATE SCHEMA rival; CREATE SCHEMA plain; SET search_path = plain")
        await owner.execute(TABLE)
        await owner.close()
        connections = [
            await asyncpg.connect(superuser_url(store), server_settings={"search_path": "plain"})
            for _ in range(SUBMITTERS)
        ]
        try:
            yield Bench(store, connections, Path(folder))
        finally:
            for connection in connections:
                await connection.close()
            await store.close()


def superuser_url(store: Store) -> str:
    assert store._server is not None
    return store._server.url(SUPERUSER, DATABASE)


def event(number: int) -> NewEvent:
    name = f"node-{number}"
    payload = {"node_id": name, "state": "active", "reason": "a benchmark says so, at some length, as reasons do"}
    return NewEvent("node", name, "node.state_changed", payload)


def row(number: int) -> tuple[object, ...]:
    new, serial = event(number), next(_numbers)
    payload = canonical_json(new.payload).decode()
    place = (new.aggregate_type, new.aggregate_id, serial, new.event_type, new.event_version, f"bench-{serial}")
    return (*place, CAUSE.actor_type, CAUSE.actor_id, CAUSE.org_id, "", "", "", 0, "", 0, payload)
