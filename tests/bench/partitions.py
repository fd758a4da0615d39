"""What partitions of `events` would cost and gain: docs/decisions/0013 has the figures and what follows from them.

One log of EVENTS rows is held in turn by the table as it is and by partitioned ones with the same columns and indexes,
except for the unique key of an aggregate's place: no partitioned table can have it, so there it is a plain index. The
same appends, the same rebuild; and what partitions are for, the removal of the oldest tenth.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from reconciler.core.views import PROJECTIONS
from reconciler.store.server import SUPERUSER, EmbeddedServer
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.bench.append import SUBMITTERS, Bench, measure
from tests.bench.log_filling import fill

TITLE = "partitions: appends, a rebuild and the removal of the oldest tenth, by how the table of events is cut"
EVENTS = int(os.environ.get("TRUEUP_BENCH_EVENTS", "1000000"))
TENTHS = 10
MONTHS = 24
ROUNDS = 3

# The indexes of the table as it is, less the unique ones.
INDEXES = """
SELECT indexdef FROM pg_indexes WHERE schemaname = 'trueup' AND tablename = 'events' AND indexdef NOT LIKE '%UNIQUE%'"""
BY_PLACE = "CREATE INDEX ON trueup.events (aggregate_type, aggregate_id, aggregate_seq)"

LAYOUTS = {
    "whole": "",
    "ids_10": "event_id",
    "ids_100": "event_id",
    "months_24": "occurred_at",
}


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    figures: dict[str, Any] = {"events": EVENTS}
    with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
        settings = StoreSettings(state_dir=Path(folder))
        server = EmbeddedServer(Path(folder) / "postgres")
        server.start()
        try:
            async with opened_store(settings):
                pass
            url = server.url(SUPERUSER, "trueup")
            await fill(url, EVENTS)
            await _run(url, SPREAD)
            indexes = [BY_PLACE, *await _indexes(url)]
            progress(f"{EVENTS} events are there, over {MONTHS} months")
            for name in LAYOUTS:
                await _run(url, *_cut(name, indexes))
                async with opened_store(settings) as store:
                    figures |= {f"{name}_{key}": value for key, value in (await _measure(store, Path(folder))).items()}
                figures[f"{name}_lookup_pages"] = await _lookup_pages(url)
                figures[f"{name}_remove_tenth_ms"] = round(await _remove(url, name))
                progress(", ".join(f"{key} {value}" for key, value in figures.items() if key.startswith(name)))
        finally:
            server.close()
    return figures


# Times spread evenly, so that the cut by month and the cut by id have the same order. The rows are kept apart, for each
# layout is filled from them.
SPREAD = f"""
SET session_replication_role = replica;
CREATE TABLE trueup.kept AS SELECT * FROM trueup.events;
UPDATE trueup.kept SET occurred_at = timestamptz '2024-01-01' + (event_id - 1) * interval '{MONTHS} months' / {EVENTS}
"""


def _cut(name: str, indexes: Sequence[str]) -> tuple[str, ...]:
    """Statements that put a table of this layout, with all rows, into the place of `events`."""
    column, count = LAYOUTS[name], int(name.rpartition("_")[2] if "_" in name else 0)
    if not count:
        return ("SET session_replication_role = replica", "TRUNCATE trueup.events",
                "INSERT INTO trueup.events SELECT * FROM trueup.kept", FINISH)  # fmt: skip
    key = "event_id" if column == "event_id" else "event_id, occurred_at"
    made = [
        "DROP TABLE trueup.events",
        f"CREATE TABLE trueup.events (LIKE trueup.kept, PRIMARY KEY ({key})) PARTITION BY RANGE ({column})",
    ]
    for number in range(count):
        ends = [_end(column, place, count) for place in (number, number + 1)]
        made.append(f"CREATE TABLE trueup.part_{number} PARTITION OF trueup.events FOR VALUES FROM ({ends[0]})"
                    f" TO ({ends[1]})")  # fmt: skip
    made += ["CREATE TABLE trueup.part_rest PARTITION OF trueup.events DEFAULT"]
    made += [*indexes, "INSERT INTO trueup.events SELECT * FROM trueup.kept", FINISH]
    return tuple(made)


def _end(column: str, place: int, count: int) -> str:
    if column == "event_id":
        return str(1 + EVENTS * place // count)
    return f"'{2024 + place // 12}-{1 + place % 12:02d}-01'"


FINISH = f"""
ALTER TABLE trueup.events OWNER TO trueup_owner;
GRANT SELECT ON trueup.events TO trueup_app;
DELETE FROM trueup.commands;
UPDATE trueup.log_head SET last_event_id = {EVENTS}"""


async def _indexes(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [definition for (definition,) in await connection.fetch(INDEXES)]
    finally:
        await connection.close()


# What every append asks first: how far is this aggregate?
LOOKUP = """
EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT aggregate_seq FROM trueup.events
WHERE aggregate_type = 'node' AND aggregate_id = 'node-1' ORDER BY aggregate_seq DESC LIMIT 1"""


async def _lookup_pages(url: str) -> int:
    """How many pages the answer takes, whatever else the machine has to do meanwhile."""
    connection = await asyncpg.connect(url)
    try:
        plan = json.loads(await connection.fetchval(LOOKUP))[0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    finally:
        await connection.close()


async def _measure(store: Store, folder: Path) -> dict[str, Any]:
    bench = Bench(store, [], folder)
    await store.rebuild_views(PROJECTIONS)
    started = time.monotonic()
    await store.rebuild_views(PROJECTIONS)
    rebuilt_s = time.monotonic() - started
    rates = {}
    for submitters in (1, SUBMITTERS):
        await measure(submitters, bench.append)
        rates[submitters] = max([(await measure(submitters, bench.append))[0] for _ in range(ROUNDS)])
    return {
        "appends_per_s": round(rates[SUBMITTERS]),
        "appends_per_s_one": round(rates[1]),
        "rebuild_events_per_s": round(EVENTS / rebuilt_s),
    }


async def _remove(url: str, name: str) -> float:
    """Milliseconds to take the oldest tenth away, and what of it is left to vacuum is not counted."""
    column, count = LAYOUTS[name], int(name.rpartition("_")[2] if "_" in name else 0)
    doomed = [f"DROP TABLE trueup.part_{number}" for number in range(max(1, count // TENTHS))]
    statements = doomed if column else [f"DELETE FROM trueup.events WHERE event_id <= {EVENTS // TENTHS}"]
    started = time.monotonic()
    await _run(url, "SET session_replication_role = replica", *statements, vacuum=False)
    return (time.monotonic() - started) * 1000


async def _run(url: str, *statements: str, vacuum: bool = True) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
        if vacuum:
            await connection.execute("VACUUM (ANALYZE) trueup.events")
            await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
