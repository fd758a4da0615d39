"""Reading the views: `reconciler.ports.Views`.

Called by the handlers, the scheduler and the server. The rows are written by `reconciler.store.view_writer` and
`reconciler.store.rebuild`. A name of a view is checked against the fixed list before it becomes part of a query.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from kit.clock import Clock
from kit.errors import Bug, Transient
from reconciler.core.views import PROJECTIONS
from reconciler.ports import Doc, ViewSnapshot
from reconciler.store.limits import WAIT_POLL_S
from reconciler.store.pool import borrowed
from reconciler.store.view_mirror import ViewMirror

# The checkpoints of the given projections.
CHECKPOINTS = "SELECT name, last_applied_event_id FROM checkpoints WHERE name = ANY($1::text[])"

# How old the oldest event is that a projection has not applied; no row for one that has applied all.
LAGS = """
SELECT wanted.name, extract(epoch FROM clock_timestamp() - e.occurred_at)::float8
FROM unnest($1::text[]) AS wanted (name) LEFT JOIN checkpoints c USING (name)
JOIN events e ON e.event_id = coalesce(c.last_applied_event_id, 0) + 1"""

# What is not following the log any more, and why.
QUARANTINED = "SELECT projection, key, event_id, event_type, error FROM quarantine ORDER BY projection, key"

INDEXED: Mapping[str, frozenset[str]] = {
    "revisions": frozenset({"source_id"}),
    "resources": frozenset({"kind", "app"}),
    "releases": frozenset({"app"}),
    "deployments": frozenset({"app"}),
    "instances": frozenset({"node_id", "app"}),
}
"""The fields with an index, by view: sql/0012 to 0016."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    projection: str
    key: str
    event_id: int
    event_type: str
    error: str


class PostgresViews:
    """`applied` is called by the writer, in this process, after it has moved a checkpoint."""

    def __init__(self, pool: asyncpg.Pool[Any], clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._checkpoints: dict[str, int] = {}
        self._moved = asyncio.Event()
        self._mirror = ViewMirror()
        self._mirroring = asyncio.Lock()

    async def get(self, view: str, key: str) -> Doc | None:
        query = f"SELECT doc FROM {table_of(view)} WHERE key = $1"  # noqa: S608  # a checked name
        async with borrowed(self._pool, f"read {key} of view {view}") as connection:
            doc: Doc | None = await connection.fetchval(query, key)
        return doc

    async def find(self, view: str, field: str, value: str) -> dict[str, Doc]:
        """The rows whose `field` is `value`, through an index."""
        if field not in INDEXED.get(view, frozenset()):
            raise Bug(f"find in view {view}", f"the field {field!r} has no index", code="field_not_indexed")
        query = f"SELECT key, doc FROM {table_of(view)} WHERE doc ->> '{field}' = $1 ORDER BY key"  # noqa: S608  # checked names
        async with borrowed(self._pool, f"find {field} {value} in view {view}") as connection:
            return {row["key"]: row["doc"] for row in await connection.fetch(query, value)}

    async def snapshot(self, views: Iterable[str]) -> ViewSnapshot:
        """Of rows that nobody may change: they are shared with every other snapshot (`ViewMirror`)."""
        names = sorted(set(views))
        for name in names:
            table_of(name)
        attempted = f"read the views {', '.join(names)}"
        async with self._mirroring, borrowed(self._pool, attempted) as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                log_id = await connection.fetchval("SELECT log_id FROM log_head")
                found = await self._mirror.read(connection, names, log_id)
        rows = {name: kept.rows for name, kept in found.items()}
        return ViewSnapshot(min((kept.event_id for kept in found.values()), default=0), log_id, rows)

    async def wait_for(self, event_id: int, views: Iterable[str], timeout_s: float) -> None:
        names = sorted(set(views))
        for name in names:
            table_of(name)
        deadline_s = self._clock.now_s() + timeout_s
        while behind := self._behind(event_id, names):
            self._moved.clear()
            await self._read_checkpoints(behind)
            behind = self._behind(event_id, names)
            left_s = deadline_s - self._clock.now_s()
            if behind and left_s <= 0:
                raise self._timed_out(event_id, behind[0], timeout_s)
            if behind:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, WAIT_POLL_S)):
                        await self._moved.wait()

    async def checkpoints(self) -> dict[str, int]:
        """How far each projection has come."""
        await self._read_checkpoints(list(PROJECTIONS))
        return {name: self._checkpoints.get(name, 0) for name in PROJECTIONS}

    async def lags_s(self) -> dict[str, float]:
        """The age in seconds of the oldest event that each projection has not applied yet; 0 for none."""
        async with borrowed(self._pool, "read how late the projections are") as connection:
            late = dict(await connection.fetch(LAGS, list(PROJECTIONS)))
        return {name: max(0.0, late.get(name, 0.0)) for name in PROJECTIONS}

    async def quarantined(self) -> list[Quarantined]:
        async with borrowed(self._pool, "read the quarantine") as connection:
            return [Quarantined(*row) for row in await connection.fetch(QUARANTINED)]

    def applied(self, name: str, event_id: int) -> None:
        self._checkpoints[name] = max(event_id, self._checkpoints.get(name, 0))
        self._moved.set()

    def _behind(self, event_id: int, names: list[str]) -> list[str]:
        return [name for name in names if self._checkpoints.get(name, 0) < event_id]

    async def _read_checkpoints(self, names: list[str]) -> None:
        async with borrowed(self._pool, "read the checkpoints of the projections") as connection:
            for name, event_id in await connection.fetch(CHECKPOINTS, names):
                self._checkpoints[name] = max(event_id, self._checkpoints.get(name, 0))

    def _timed_out(self, event_id: int, name: str, timeout_s: float) -> Transient:
        return Transient(
            f"wait {timeout_s:g} s for view {name} to reach event {event_id}",
            f"it is at event {self._checkpoints.get(name, 0)}",
            fix="ask again; if the view does not move, read the projections' state in the status",
            code="projection_timeout",
        )


def table_of(view: str) -> str:
    """The table of a view. Raises Bug for a name that is not in the fixed list."""
    if view not in PROJECTIONS:
        raise Bug(f"use the view {view!r}", f"there are only {', '.join(PROJECTIONS)}", code="view_unknown")
    return f"view_{view}"
