"""Moves one projection forward by one page of the log.

Called by `reconciler.tasks.projector` through `Store`. A page: at most 1000 events, the rows that they touch in one
query, the fold in Python, and one transaction with the new rows, the removed ones and the checkpoint. The checkpoint
moves only if it still is where the page began (and no rebuild came between), so a page has its effect once, however
often it is tried.

A fold that raises puts its row into quarantine (`reconciler.core.folding`); a rebuild with mended code ends that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from kit import logs
from reconciler.core.events import Event
from reconciler.core.folding import Failure, Folding, Row
from reconciler.core.projection import cares_about
from reconciler.core.views import PROJECTIONS
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

ALL_CHECKPOINTS = """
SELECT name, last_applied_event_id, generation FROM checkpoints WHERE name = ANY($1::text[])"""

# Moves the checkpoints of views that a page does not concern; not of one that somebody else is moving.
MOVE_UNCONCERNED = """
WITH free AS (
    SELECT name FROM checkpoints WHERE name = ANY($1::text[]) AND last_applied_event_id = $2 FOR UPDATE SKIP LOCKED
)
UPDATE checkpoints SET last_applied_event_id = $3, updated_at = clock_timestamp()
FROM free WHERE checkpoints.name = free.name RETURNING checkpoints.name"""

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

# Not while a rebuild makes the view equal to what it folded. Ends with the transaction.
SHARE_VIEW = "SELECT pg_try_advisory_xact_lock_shared(hashtextextended($1, 0))"

# What is derived may be lost with the last half second before a crash: checkpoint and rows together, so it is folded
# again.
DO_NOT_WAIT_FOR_DISK = "SET LOCAL synchronous_commit = off"

_log = logs.get("projector")


class Checkpoint(NamedTuple):
    event_id: int
    generation: int


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
        """Returns the number of events that were read. 0: the projection is at the end of the log, or a rebuild is
        just about to finish it; then the next pass finds it moved."""
        projection = PROJECTIONS[name]
        async with borrowed(self._pool, f"read the checkpoint of view {name}") as connection:
            found = await connection.fetchrow(CHECKPOINT_ONLY_READ, name) or await connection.fetchrow(CHECKPOINT, name)
        checkpoint = Checkpoint(*found) if found is not None else Checkpoint(0, 0)
        events = await self._page_after(checkpoint.event_id)
        if not events:
            return 0
        written = await self._write_page(projection, checkpoint, events)
        if written is None:
            return 0
        if written:
            self._views.applied(name, events[-1].event_id)
        return len(events)

    async def apply_pages(self, names: Iterable[str]) -> dict[str, int | Exception]:
        """One page for each view: the number of its events, or what went wrong with this one view. The views that stand
        together share the page, and those that it does not concern move together in one statement."""
        wanted = list(names)
        async with borrowed(self._pool, "read the checkpoints of the projections") as connection:
            found = {name: Checkpoint(*rest) for name, *rest in await connection.fetch(ALL_CHECKPOINTS, wanted)}
        done: dict[str, int | Exception] = {}
        concerned = [name for name in wanted if name not in found]
        for event_id in sorted({each.event_id for each in found.values()}):
            together = {name: each for name, each in found.items() if each.event_id == event_id}
            events = await self._page_after(event_id)
            types = {event.aggregate_type for event in events}
            idle = [name for name in together if not any(cares_about(PROJECTIONS[name], each) for each in types)]
            concerned += together.keys() - set(idle)
            moved = await self._pass_over(idle, event_id, events) if events and idle else []
            done.update({name: len(events) if name in moved else 0 for name in idle})
        for name in concerned:
            try:
                done[name] = await self.apply_page(name)
            except Exception as error:  # whatever it is, the other views go on
                done[name] = error
        return done

    async def _pass_over(self, names: Sequence[str], event_id: int, events: Sequence[Event]) -> list[str]:
        last = events[-1].event_id
        async with borrowed(self._pool, "pass over a page of the log") as connection, connection.transaction():
            await connection.execute(DO_NOT_WAIT_FOR_DISK)
            moved = [row["name"] for row in await connection.fetch(MOVE_UNCONCERNED, names, event_id, last)]
        for name in moved:
            self._views.applied(name, last)
        return moved

    async def _page_after(self, event_id: int) -> list[Event]:
        """Projections that stand at the same place share a page."""
        if self._page[0] != event_id or not self._page[1]:
            self._page = (event_id, await self._log.read(event_id, limit=PAGE_EVENTS_MAX))
        return self._page[1]

    async def _write_page(self, projection: Projection, checkpoint: Checkpoint, events: Sequence[Event]) -> bool | None:
        """False: another projector or a rebuild was here first. None: a rebuild holds the view."""
        name = projection.name
        async with borrowed(self._pool, f"write a page of view {name}") as connection, connection.transaction():
            await connection.execute(DO_NOT_WAIT_FOR_DISK)
            if not await connection.fetchval(SHARE_VIEW, lock_name(name)):
                return None
            if await connection.fetchval(MOVE_CHECKPOINT, name, events[-1].event_id, *checkpoint) is None:
                return False
            folding = await _folded(connection, projection, events)
            await write_rows(connection, table_of(name), {key: folding.rows[key] for key in folding.changed})
            await put_into_quarantine(connection, name, list(folding.failures.values()))
        return True


def lock_name(view: str) -> str:
    """Of the advisory lock that projectors share, page by page, and a rebuild takes for itself to finish."""
    return f"trueup view {view}"


async def _folded(connection: Connection, projection: Projection, events: Sequence[Event]) -> Folding:
    """The page, folded onto the stored rows that it touches."""
    folding = Folding(projection)
    touched = [
        (event, keys)
        for event in events
        if cares_about(projection, event.aggregate_type) and (keys := folding.keys(event))
    ]
    if wanted := sorted({key for _, keys in touched for key in keys}):
        folding.rows.update(await read_rows(connection, table_of(projection.name), wanted))
        found = await connection.fetch(QUARANTINED_KEYS, projection.name, wanted)
        folding.blocked.update(row["key"] for row in found)
    for event, _ in touched:
        folding.fold(event)
    return folding


async def read_rows(connection: Connection, table: str, keys: Sequence[str]) -> dict[str, Row]:
    query = f"SELECT key, doc, last_event_id FROM {table} WHERE key = ANY($1::text[])"  # noqa: S608  # a name from the fixed list
    return {key: Row(doc, event_id) for key, doc, event_id in await connection.fetch(query, keys)}


async def write_rows(connection: Connection, table: str, rows: Mapping[str, Row]) -> None:
    gone = [key for key, row in rows.items() if row.doc is None]
    kept = [(key, row.doc, row.event_id) for key, row in rows.items() if row.doc is not None]
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
    for each in failures:
        place = f"{each.event_type} {each.event_id}"
        _log.error("a row goes into quarantine", view=name, key=each.key, event=place, why=each.error)
    if failures:
        await connection.execute(PUT_INTO_QUARANTINE, name, *map(list, zip(*failures, strict=True)))
