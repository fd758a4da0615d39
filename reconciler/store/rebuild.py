"""Folds views anew from the first event, in one pass over the log, while their readers go on reading the old rows.

Called through `Store` by the server (`trueup views rebuild|verify`) and the tests. Each event is read and decoded once,
for every view that cares. The new rows grow in memory and in temporary tables (`reconciler.store.shadow`); then, view
after view, one transaction takes the view's lock, folds what came meanwhile, and makes the view equal to the new
rows. Only rows that differ are written, so a reader sees the old row or the right one, and a view that was right is
not touched. The tables are not swapped by renaming: a REPEATABLE READ snapshot from before the swap would find the new
table empty, and the rename would wait for every reader and keep new ones waiting. docs/decisions/ has more.

A projector passes over a view while its lock is held; two rebuilds of one view do not run at once.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from kit.errors import Transient
from reconciler.core.events import Event
from reconciler.core.projection import cares_about
from reconciler.core.views import PROJECTIONS
from reconciler.store import log_pages
from reconciler.store.limits import (
    DIFFERENCES_MAX,
    LOG_PAGE_EVENTS_MAX,
    REBUILD_BYTES_MAX,
    REBUILD_FINISH_TRIES,
    REBUILD_MERGE_TIMEOUT_MS,
    REBUILD_ROWS_MAX,
    REBUILD_SLICE_EVENTS,
)
from reconciler.store.pool import borrowed, translated
from reconciler.store.shadow import Shadow
from reconciler.store.stored_event import StoredEvent
from reconciler.store.view_writer import CHECKPOINT, lock_name, put_into_quarantine
from reconciler.store.views import PostgresViews, table_of

if TYPE_CHECKING:
    from reconciler.store.event_log import PostgresEventLog
    from reconciler.store.pool import Connection

# One rebuild of a view at a time; freed with the connection's return to the pool.
ONLY_ONE = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"

# From here to the end of the transaction no projector writes the view.
TAKE_VIEW = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"

LOCK_CHECKPOINT = "SELECT last_applied_event_id FROM checkpoints WHERE name = $1 FOR UPDATE"

MOVE = "UPDATE checkpoints SET last_applied_event_id = $2, generation = generation + 1 WHERE name = $1"

LEAVE_QUARANTINE = "DELETE FROM quarantine WHERE projection = $1"

# The work of a rebuild is longer than that of a request. The pool resets both.
LONGER = f"""
SET statement_timeout = {REBUILD_MERGE_TIMEOUT_MS};
SET idle_in_transaction_session_timeout = {REBUILD_MERGE_TIMEOUT_MS}"""

Pages = AsyncIterator[Sequence[StoredEvent]]
Progress = Callable[[int, int], None]
"""(event_id that is folded, event_id to come to)"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`differing`: how many rows were not as the log says. `keys`: the first of them, (key, missing|extra|wrong)."""

    view: str
    event_id: int
    differing: int
    keys: tuple[tuple[str, str], ...]
    quarantined: int


class Rebuilder:
    def __init__(self, pool: asyncpg.Pool[Any], log: PostgresEventLog, views: PostgresViews) -> None:
        self._pool = pool
        self._log = log
        self._views = views

    async def run(
        self,
        names: Iterable[str] = (),
        *,
        verify: bool = False,
        archive: Pages | None = None,
        progress: Progress = lambda event_id, upto: None,
    ) -> list[Rebuilt]:
        """All views, unless named. `verify` compares and changes nothing. `archive`: the events from the first one on,
        read before the table."""
        wanted = sorted(set(names or PROJECTIONS))
        for name in wanted:
            table_of(name)
        async with borrowed(self._pool, f"rebuild {', '.join(wanted)}") as connection:
            await _claim(connection, wanted)
            await connection.execute(LONGER)
            shadows = [Shadow(PROJECTIONS[name], connection) for name in wanted]
            for shadow in shadows:
                await shadow.make()
            try:
                run = _Run(self, connection, shadows, progress)
                await run.fold(wanted, verify=verify, archive=archive)
                return [await run.finish(shadow, verify=verify) for shadow in shadows]
            finally:
                if not connection.is_closed():
                    for shadow in shadows:
                        await shadow.drop()

    async def rebuild(self, name: str) -> int:
        """Returns how many rows were wrong (0: the incremental result was the same, byte for byte)."""
        (result,) = await self.run([name])
        return result.differing


class _Run:
    """`_last[view]`: how far its shadow has come."""

    def __init__(self, parts: Rebuilder, connection: Connection, shadows: Sequence[Shadow], progress: Progress) -> None:
        self._pool, self._log, self._views = parts._pool, parts._log, parts._views
        self._connection = connection
        self._shadows = shadows
        self._progress = progress
        self._last = {shadow.name: 0 for shadow in shadows}

    async def fold(self, names: Sequence[str], *, verify: bool, archive: Pages | None) -> None:
        """Together as far as it goes. A verification stops where the slowest live view is."""
        upto = await self._target(names, verify)
        if archive is not None:
            async for events in archive:
                await self._fold_page(self._shadows, [event for event in events if event.event_id <= upto])
        while min(self._last.values()) < upto:
            await self._catch_up(self._shadows, upto)
            further = await self._target(names, verify)
            upto = further if further - upto > LOG_PAGE_EVENTS_MAX else upto
        for shadow in self._shadows:
            await shadow.settle()

    async def finish(self, shadow: Shadow, *, verify: bool) -> Rebuilt:
        for attempt in range(1, REBUILD_FINISH_TRIES + 1):
            try:
                with translated(f"finish the rebuild of view {shadow.name}"):
                    return await self._finish(shadow, verify)
            except Transient as error:
                if error.code != "postgres_busy" or attempt == REBUILD_FINISH_TRIES:
                    raise
        raise AssertionError("unreachable")

    async def _finish(self, shadow: Shadow, verify: bool) -> Rebuilt:
        connection, name = self._connection, shadow.name
        async with connection.transaction():
            await connection.execute(TAKE_VIEW, lock_name(name))
            await connection.execute(CHECKPOINT, name)
            checkpoint = await connection.fetchval(LOCK_CHECKPOINT, name)
            changed = await self._catch_up([shadow], checkpoint)
            await shadow.settle(changed)
            differing = await shadow.difference()
            keys = await shadow.differing_keys(DIFFERENCES_MAX)
            if not verify:
                await self._put_in_place(shadow)
        if not verify:
            self._views.applied(name, self._last[name])
        return Rebuilt(name, self._last[name], differing, tuple(keys), len(shadow.folding.failures))

    async def _put_in_place(self, shadow: Shadow) -> None:
        await shadow.mend()
        await self._connection.execute(LEAVE_QUARANTINE, shadow.name)
        await put_into_quarantine(self._connection, shadow.name, list(shadow.folding.failures.values()))
        await self._connection.execute(MOVE, shadow.name, self._last[shadow.name])

    async def _target(self, names: Sequence[str], verify: bool) -> int:
        if verify:
            checkpoints = await self._views.checkpoints()
            return min(checkpoints[name] for name in names)
        return (await self._log.head()).last_event_id

    async def _catch_up(self, shadows: Sequence[Shadow], upto: int) -> set[str]:
        """Returns the keys that changed, of one shadow only if there is one."""
        changed: set[str] = set()
        after = min(self._last[shadow.name] for shadow in shadows)
        async with aclosing(log_pages.pages(self._pool, after, upto)) as found:
            async for rows in found:
                for start in range(0, len(rows), REBUILD_SLICE_EVENTS):
                    events = map(log_pages.event_of_row, rows[start : start + REBUILD_SLICE_EVENTS])
                    changed |= await self._fold_slice(shadows, events)
                await self._spill(shadows)
                self._progress(rows[-1][0], upto)
        return changed

    async def _fold_page(self, shadows: Sequence[Shadow], events: Sequence[StoredEvent]) -> None:
        """Of an archive."""
        for start in range(0, len(events), REBUILD_SLICE_EVENTS):
            await self._fold_slice(shadows, events[start : start + REBUILD_SLICE_EVENTS])
        await self._spill(shadows)

    async def _fold_slice(self, shadows: Sequence[Shadow], events: Iterable[StoredEvent]) -> set[str]:
        """Other loops of this process go on after each. Events are made one by one and let go, unless spilled rows
        have to be brought back before."""
        if any(shadow.spilled for shadow in shadows):
            events = list(events)
            for shadow in shadows:
                await shadow.load(events)
        with _no_garbage_collection():
            last, size_bytes = _fold(shadows, events)
        changed: set[str] = set() if len(shadows) > 1 else set(shadows[0].folding.changed)
        for shadow in shadows:
            shadow.weigh(size_bytes)
            self._last[shadow.name] = last
        await breath()
        return changed

    async def _spill(self, shadows: Sequence[Shadow]) -> None:
        while (
            sum(shadow.weight_bytes for shadow in shadows) > REBUILD_BYTES_MAX
            or sum(len(shadow.folding.rows) for shadow in shadows) > REBUILD_ROWS_MAX
        ):
            await max(shadows, key=lambda shadow: (shadow.weight_bytes, len(shadow.folding.rows))).spill()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """For one slice: thousands of young documents, none in a cycle, that the collector would look through ten times.
    It triples the cost of decoding."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


async def breath() -> None:
    """Between two slices: the other loops of this process go on."""
    await asyncio.sleep(0)


def _fold(shadows: Sequence[Shadow], events: Iterable[StoredEvent]) -> tuple[int, int]:
    """Returns the last event_id, and the bytes of the payloads."""
    folds: dict[str, list[Callable[[Event], None]]] = {}
    last, size_bytes = 0, 0
    for event in events:
        mine = folds.get(event.aggregate_type)
        if mine is None:
            mine = [each.folding.fold for each in shadows if cares_about(each.folding.projection, event.aggregate_type)]
            folds[event.aggregate_type] = mine
        for fold in mine:
            fold(event)
        last = event.event_id
        size_bytes += event.size_bytes
    return last, size_bytes


async def _claim(connection: Connection, names: Sequence[str]) -> None:
    for name in names:
        if not await connection.fetchval(ONLY_ONE, f"trueup rebuild {name}"):
            raise Transient(
                f"rebuild view {name}",
                "another rebuild or verification of it is running",
                fix="wait for it: `trueup views list` shows it",
                code="rebuild_running",
            )
