"""Moves one projection forward by one page of the log.

Called by `reconciler.tasks.projector` through `Store`. A page: at most 1000 events, the rows that they touch in one
query, the fold in Python, and one transaction with the new rows, the removed ones and the checkpoint. The checkpoint
moves only if it still is where the page began (and no rebuild came between), so a page has its effect once, however
often it is tried.

A fold that raises puts its row into quarantine: the row stays as it was, its later events are passed over, all other
rows go on. A rebuild with mended code ends the quarantine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from kit import logs
from reconciler.core.events import Event
from reconciler.core.views import PROJECTIONS
from reconciler.ports import Doc
from reconciler.store.limits import PAGE_EVENTS_MAX
from reconciler.store.pool import borrowed
from reconciler.store.views import PostgresViews, table_of

if TYPE_CHECKING:
    from reconciler.core.projection import Projection
    from reconciler.store.event_log import PostgresEventLog
    from reconciler.store.pool import Connection

# Where a projection is; the row is made at its first use.
CHECKPOINT = """
INSERT INTO checkpoints (name) VALUES ($1)
ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING last_applied_event_id, generation"""

CHECKPOINT_ONLY_READ = "SELECT last_applied_event_id, generation FROM checkpoints WHERE name = $1"

# Moves the checkpoint if nobody else has: the guard that makes a page take effect once.
MOVE_CHECKPOINT = """
UPDATE checkpoints SET last_applied_event_id = $2, updated_at = clock_timestamp()
WHERE name = $1 AND last_applied_event_id = $3 AND generation = $4
RETURNING true"""

# Which of these rows are out of order.
QUARANTINED_KEYS = "SELECT key FROM quarantine WHERE projection = $1 AND key = ANY($2::text[])"

PUT_INTO_QUARANTINE = """
INSERT INTO quarantine (projection, key, event_id, event_type, error)
SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[])
ON CONFLICT (projection, key) DO NOTHING"""

# What is derived may be lost with the last half second before a crash: checkpoint and rows together, so it is folded
# again.
DO_NOT_WAIT_FOR_DISK = "SET LOCAL synchronous_commit = off"

ERROR_CHARACTERS_MAX = 2_000

_log = logs.get("projector")


class Checkpoint(NamedTuple):
    event_id: int
    generation: int


class Failure(NamedTuple):
    """A key that goes into quarantine."""

    key: str
    event_id: int
    event_type: str
    error: str


@dataclass(slots=True)
class Folded:
    """Rows after a page: a document with the last event that was folded into it, or None for one that is gone."""

    rows: dict[str, tuple[Doc | None, int]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


class ViewWriter:
    def __init__(self, pool: asyncpg.Pool[Any], log: PostgresEventLog, views: PostgresViews) -> None:
        self._pool = pool
        self._log = log
        self._views = views
        self._page: tuple[int, list[Event]] = (-1, [])

    async def catch_up(self, names: Iterable[str] = ()) -> None:
        """Moves the views (all, unless named) to the end of the log. For the command line and tests."""
        for name in names or PROJECTIONS:
            while await self.apply_page(name):
                pass

    async def apply_page(self, name: str) -> int:
        """Returns the number of events that were read; 0: the projection is at the end of the log."""
        projection = PROJECTIONS[name]
        async with borrowed(self._pool, f"read the checkpoint of view {name}") as connection:
            found = await connection.fetchrow(CHECKPOINT_ONLY_READ, name) or await connection.fetchrow(CHECKPOINT, name)
        checkpoint = Checkpoint(*found) if found is not None else Checkpoint(0, 0)
        events = await self._page_after(checkpoint.event_id)
        if events and await self._write_page(projection, checkpoint, events):
            self._views.applied(name, events[-1].event_id)
        return len(events)

    async def _page_after(self, event_id: int) -> list[Event]:
        """Projections that stand at the same place share a page."""
        if self._page[0] != event_id or not self._page[1]:
            self._page = (event_id, await self._log.read(event_id, limit=PAGE_EVENTS_MAX))
        return self._page[1]

    async def _write_page(self, projection: Projection, checkpoint: Checkpoint, events: Sequence[Event]) -> bool:
        async with borrowed(self._pool, f"write a page of view {projection.name}") as connection:
            async with connection.transaction():
                await connection.execute(DO_NOT_WAIT_FOR_DISK)
                last = events[-1].event_id
                moved = await connection.fetchval(MOVE_CHECKPOINT, projection.name, last, *checkpoint)
                if moved is None:
                    return False  # another projector or a rebuild was here first
                folded = await _fold_onto(connection, projection, table_of(projection.name), events)
                await write_rows(connection, table_of(projection.name), folded.rows)
                await put_into_quarantine(connection, projection.name, folded.failures)
        return True


async def _fold_onto(connection: Connection, projection: Projection, table: str, events: Sequence[Event]) -> Folded:
    touched, failures = keys_of(projection, events)
    keys = sorted({key for _, keys in touched for key in keys})
    if not keys:
        return Folded(failures=failures)
    rows = await read_rows(connection, table, keys)
    blocked = {row["key"] for row in await connection.fetch(QUARANTINED_KEYS, projection.name, keys)}
    folded = fold_page(projection, touched, rows, blocked)
    folded.failures[:0] = failures
    return folded


def keys_of(
    projection: Projection, events: Sequence[Event]
) -> tuple[list[tuple[Event, frozenset[str]]], list[Failure]]:
    """The events that touch rows, with the keys; and those whose keys could not even be told."""
    touched: list[tuple[Event, frozenset[str]]] = []
    failures: list[Failure] = []
    for event in events:
        try:
            keys = projection.keys(event)
        except Exception as error:  # whatever it is, it stays inside this aggregate
            key = f"{event.aggregate_type}:{event.aggregate_id}"
            failures.append(_failure(projection, key, event, error))
            continue
        if keys:
            touched.append((event, keys))
    return touched, failures


def fold_page(
    projection: Projection,
    touched: Sequence[tuple[Event, frozenset[str]]],
    rows: Mapping[str, Doc],
    blocked: Iterable[str],
) -> Folded:
    """Pure. `rows`: the documents before the page. `blocked`: keys in quarantine."""
    folded, skipped = Folded(), set(blocked)
    for event, keys in touched:
        for key in sorted(keys - skipped):
            before = folded.rows[key][0] if key in folded.rows else rows.get(key)
            try:
                after = projection.fold(key, before, event)
            except Exception as error:  # whatever it is, it stays inside this row
                folded.failures.append(_failure(projection, key, event, error))
                skipped.add(key)
                continue
            if after is not before:
                folded.rows[key] = (after, event.event_id)
    return folded


def _failure(projection: Projection, key: str, event: Event, error: Exception) -> Failure:
    _log.error(
        "a row goes into quarantine",
        exc=error,
        view=projection.name,
        key=key,
        event_id=event.event_id,
        event_type=event.event_type,
    )
    text = f"{type(error).__name__}: {error}".replace("\x00", "")[:ERROR_CHARACTERS_MAX]
    return Failure(key, event.event_id, event.event_type, text)


async def read_rows(connection: Connection, table: str, keys: Sequence[str]) -> dict[str, Doc]:
    query = f"SELECT key, doc FROM {table} WHERE key = ANY($1::text[])"  # noqa: S608  # a name from the fixed list
    return dict(await connection.fetch(query, keys))


async def write_rows(connection: Connection, table: str, rows: Mapping[str, tuple[Doc | None, int]]) -> None:
    gone = [key for key, (doc, _) in rows.items() if doc is None]
    kept = [(key, doc, event_id) for key, (doc, event_id) in rows.items() if doc is not None]
    if gone:
        await connection.execute(f"DELETE FROM {table} WHERE key = ANY($1::text[])", gone)  # noqa: S608  # a fixed name
    if kept:
        query = f"""
            INSERT INTO {table} (key, doc, last_event_id)
            SELECT key, doc::jsonb, event_id FROM unnest($1::text[], $2::text[], $3::bigint[]) AS r (key, doc, event_id)
            ON CONFLICT (key) DO UPDATE SET doc = excluded.doc, last_event_id = excluded.last_event_id"""  # noqa: S608
        texts = [json.dumps(doc, ensure_ascii=False, allow_nan=False) for _, doc, _ in kept]
        await connection.execute(query, [key for key, _, _ in kept], texts, [event_id for _, _, event_id in kept])


async def put_into_quarantine(connection: Connection, name: str, failures: Sequence[Failure]) -> None:
    if failures:
        await connection.execute(PUT_INTO_QUARANTINE, name, *map(list, zip(*failures, strict=True)))
