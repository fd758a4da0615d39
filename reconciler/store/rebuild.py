"""Folds a view anew from the first event, while its readers go on reading the old rows.

Called by the command line and the tests through `Store.rebuild`. The new rows grow in a temporary table; when it has
caught up, one transaction takes the projection's checkpoint, folds what came meanwhile, and makes the view equal to
the new rows. Only rows that differ are written, so a reader sees the old row or the right one, and a view that was
right is not touched. Every projection but this one goes on; this one stands still for the last step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from reconciler.core.views import PROJECTIONS
from reconciler.store.limits import PAGE_EVENTS_MAX, REBUILD_MERGE_TIMEOUT_MS
from reconciler.store.pool import borrowed
from reconciler.store.view_writer import (
    CHECKPOINT,
    Failure,
    fold_page,
    keys_of,
    put_into_quarantine,
    read_rows,
    write_rows,
)
from reconciler.store.views import PostgresViews, table_of

if TYPE_CHECKING:
    from reconciler.core.projection import Projection
    from reconciler.store.event_log import PostgresEventLog
    from reconciler.store.pool import Connection

SHADOW = "rebuilt_rows"

MAKE_SHADOW = (
    f"CREATE TEMPORARY TABLE {SHADOW} (key text PRIMARY KEY, doc jsonb NOT NULL, last_event_id bigint NOT NULL)"
)

DROP_SHADOW = f"DROP TABLE IF EXISTS pg_temp.{SHADOW}"

LOCK_CHECKPOINT = "SELECT last_applied_event_id FROM checkpoints WHERE name = $1 FOR UPDATE"

MOVE = "UPDATE checkpoints SET last_applied_event_id = $2, generation = generation + 1 WHERE name = $1"

LEAVE_QUARANTINE = "DELETE FROM quarantine WHERE projection = $1"


class Rebuilder:
    def __init__(self, pool: asyncpg.Pool[Any], log: PostgresEventLog, views: PostgresViews) -> None:
        self._pool = pool
        self._log = log
        self._views = views

    async def rebuild(self, name: str) -> int:
        """Returns how many rows were wrong (0: the incremental result was the same, byte for byte)."""
        table, projection = table_of(name), PROJECTIONS[name]
        async with borrowed(self._pool, f"rebuild view {name}") as connection:
            await connection.execute(DROP_SHADOW)
            await connection.execute(MAKE_SHADOW)
            try:
                shadow = _Shadow(connection, projection, self._log)
                await shadow.catch_up((await self._log.head()).last_event_id)
                async with connection.transaction():
                    differing = await self._finish(connection, shadow, table)
            finally:
                if not connection.is_closed():
                    await connection.execute(DROP_SHADOW)
        self._views.applied(name, shadow.last_event_id)
        return differing

    async def _finish(self, connection: Connection, shadow: _Shadow, table: str) -> int:
        name = shadow.projection.name
        await connection.execute(f"SET LOCAL statement_timeout = {REBUILD_MERGE_TIMEOUT_MS}")
        await connection.execute(CHECKPOINT, name)
        await shadow.catch_up(await connection.fetchval(LOCK_CHECKPOINT, name))
        differing = await _make_equal(connection, table)
        await connection.execute(LEAVE_QUARANTINE, name)
        await put_into_quarantine(connection, name, list(shadow.failures.values()))
        await connection.execute(MOVE, name, shadow.last_event_id)
        return differing


class _Shadow:
    """The new rows, and how far they have come."""

    def __init__(self, connection: Connection, projection: Projection, log: PostgresEventLog) -> None:
        self.projection = projection
        self.last_event_id = 0
        self.failures: dict[str, Failure] = {}
        self._connection = connection
        self._log = log

    async def catch_up(self, event_id: int) -> None:
        """Folds at least up to `event_id`, never back."""
        while self.last_event_id < event_id:
            events = await self._log.read(self.last_event_id, limit=PAGE_EVENTS_MAX, upto=event_id)
            touched, failures = keys_of(self.projection, events)
            keys = sorted({key for _, keys in touched for key in keys})
            rows = await read_rows(self._connection, SHADOW, keys)
            folded = fold_page(self.projection, touched, rows, self.failures)
            await write_rows(self._connection, SHADOW, folded.rows)
            for failure in (*failures, *folded.failures):
                self.failures.setdefault(failure.key, failure)
            self.last_event_id = events[-1].event_id


async def _make_equal(connection: Connection, table: str) -> int:
    """Compares documents as text: for jsonb 1 and 1.0 are equal, for a reader they are not."""
    removed = await connection.execute(
        f"DELETE FROM {table} v WHERE NOT EXISTS (SELECT 1 FROM {SHADOW} s WHERE s.key = v.key)"  # noqa: S608  # fixed names
    )
    written = await connection.execute(
        f"""
        INSERT INTO {table} AS v (key, doc, last_event_id) SELECT key, doc, last_event_id FROM {SHADOW}
        ON CONFLICT (key) DO UPDATE SET doc = excluded.doc, last_event_id = excluded.last_event_id
        WHERE v.doc::text <> excluded.doc::text OR v.last_event_id <> excluded.last_event_id"""  # noqa: S608  # fixed names
    )
    return int(removed.split()[-1]) + int(written.split()[-1])
