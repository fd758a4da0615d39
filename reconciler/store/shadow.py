"""The rows of one view as a rebuild folds them: in memory, and in a temporary table beside the view.

Called by `reconciler.store.rebuild`. Rows stay in memory while there are few; `spill` moves them to the table, and
`load` brings back those that a slice of events needs. `settle` ends the folding: then the table holds every row, and
`difference` compares it with the live view. Documents are compared as text: for jsonb 1 and 1.0 are equal, for a
reader they are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from reconciler.core.events import Event
from reconciler.core.folding import Folding, Row
from reconciler.core.projection import cares_about
from reconciler.store.limits import REBUILD_MERGE_TIMEOUT_MS
from reconciler.store.stored_event import payload_of
from reconciler.store.views import table_of

if TYPE_CHECKING:
    from reconciler.core.projection import Projection
    from reconciler.store.pool import Connection

TIMEOUT_S = REBUILD_MERGE_TIMEOUT_MS / 1000
LARGE_SLICE_BYTES = 1 << 20
"""A slice with more payload than this may have made known rows much larger: they are weighed again."""

_encode = msgspec.json.Encoder().encode


class Shadow:
    def __init__(self, projection: Projection, connection: Connection) -> None:
        self.name = projection.name
        self.folding = Folding(projection)
        self.weight_bytes = 0
        self.spilled = False
        self._sizes: dict[str, int] = {}
        self._connection = connection
        self._table = f"rebuilt_{projection.name}"
        self._indexed = False

    async def make(self) -> None:
        await self._connection.execute(
            f"DROP TABLE IF EXISTS pg_temp.{self._table};"
            f"CREATE TEMPORARY TABLE {self._table} "
            "(key text NOT NULL, doc text NOT NULL, last_event_id bigint NOT NULL)"
        )

    async def drop(self) -> None:
        await self._connection.execute(f"DROP TABLE IF EXISTS pg_temp.{self._table}")

    def weigh(self, slice_bytes: int) -> None:
        """After a slice: what is gone leaves the memory, what is new is counted."""
        rows, sizes = self.folding.rows, self._sizes
        for key in self.folding.changed:
            doc = rows[key].doc
            if doc is None:
                self.weight_bytes -= sizes.pop(key, 0)
                if not self.spilled:
                    del rows[key]
            elif key not in sizes or slice_bytes > LARGE_SLICE_BYTES:
                size = len(_encode(doc))
                self.weight_bytes += size - sizes.get(key, 0)
                sizes[key] = size
        self.folding.changed.clear()

    async def load(self, events: Iterable[Event]) -> None:
        """Brings back the rows that these events touch, if they were spilled."""
        if not self.spilled:
            return
        rows, projection = self.folding.rows, self.folding.projection
        mine = (event for event in events if cares_about(projection, event.aggregate_type))
        wanted = {key for event in mine for key in self.folding.keys(event)} - rows.keys()
        if wanted:
            query = f"SELECT key, doc, last_event_id FROM {self._table} WHERE key = ANY($1::text[])"  # noqa: S608  # a fixed name
            for key, doc, event_id in await self._connection.fetch(query, sorted(wanted)):
                rows[key] = Row(payload_of(doc), event_id)
                self._sizes[key] = len(doc)
                self.weight_bytes += len(doc)

    async def spill(self) -> None:
        """Moves all rows from memory to the table."""
        await self._index()
        await self._write(self.folding.rows.keys())
        self.folding.rows.clear()
        self._sizes.clear()
        self.weight_bytes, self.spilled = 0, True

    async def settle(self, keys: Iterable[str] = ()) -> None:
        """Everything is in the table. `keys`: what changed since the last time; the first time all does."""
        if self._indexed:
            await self._write(self.folding.rows.keys() if self.spilled else keys)
            return
        records = ((key, _encode(row.doc).decode(), row.event_id) for key, row in self.folding.rows.items())
        await self._connection.copy_records_to_table(
            self._table, records=records, columns=("key", "doc", "last_event_id"), timeout=TIMEOUT_S
        )
        await self._index()

    async def difference(self) -> int:
        """Compares with the live view, into the temporary table `differing` of this transaction; returns the count."""
        query = f"""
            CREATE TEMPORARY TABLE differing ON COMMIT DROP AS
            SELECT coalesce(v.key, s.key) AS key,
                CASE WHEN v.key IS NULL THEN 'missing' WHEN s.key IS NULL THEN 'extra' ELSE 'wrong' END AS what
            FROM {table_of(self.name)} v FULL JOIN {self._table} s ON s.key = v.key
            WHERE v.key IS NULL OR s.key IS NULL OR v.last_event_id <> s.last_event_id
                OR v.doc::text <> s.doc::jsonb::text"""  # noqa: S608  # fixed names
        await self._connection.execute(query, timeout=TIMEOUT_S)
        return int(await self._connection.fetchval("SELECT count(*) FROM differing") or 0)

    async def differing_keys(self, limit: int) -> Sequence[tuple[str, str]]:
        """(key, missing | extra | wrong): what the live view lacks, has too much, has otherwise."""
        found = await self._connection.fetch("SELECT key, what FROM differing ORDER BY key LIMIT $1", limit)
        return [(row["key"], row["what"]) for row in found]

    async def mend(self) -> None:
        """Makes the live view equal; only rows that differ are written."""
        table = table_of(self.name)
        await self._connection.execute(
            f"DELETE FROM {table} v USING differing d WHERE d.key = v.key AND d.what = 'extra'",  # noqa: S608  # fixed names
            timeout=TIMEOUT_S,
        )
        await self._connection.execute(
            f"""
            INSERT INTO {table} (key, doc, last_event_id)
            SELECT s.key, s.doc::jsonb, s.last_event_id FROM {self._table} s JOIN differing d ON d.key = s.key
            ON CONFLICT (key) DO UPDATE SET doc = excluded.doc, last_event_id = excluded.last_event_id""",  # noqa: S608  # fixed names
            timeout=TIMEOUT_S,
        )

    async def _index(self) -> None:
        if not self._indexed:
            await self._connection.execute(
                f"CREATE UNIQUE INDEX ON {self._table} (key); ANALYZE {self._table}", timeout=TIMEOUT_S
            )
            self._indexed = True

    async def _write(self, keys: Iterable[str]) -> None:
        """A key of which there is no row, or one that is gone, leaves the table."""
        rows = self.folding.rows
        found = [(key, rows.get(key, Row(None, 0))) for key in keys]
        gone = [key for key, row in found if row.doc is None]
        kept = [(key, _encode(row.doc).decode(), row.event_id) for key, row in found if row.doc is not None]
        if gone:
            await self._connection.execute(f"DELETE FROM {self._table} WHERE key = ANY($1::text[])", gone)  # noqa: S608  # a fixed name
        if kept:
            query = f"""
                INSERT INTO {self._table} SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
                ON CONFLICT (key) DO UPDATE SET doc = excluded.doc, last_event_id = excluded.last_event_id"""  # noqa: S608  # a fixed name
            await self._connection.execute(query, *map(list, zip(*kept, strict=True)), timeout=TIMEOUT_S)
