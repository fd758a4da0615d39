"""The rows of the views in this process's memory, brought up to date by reading only what changed.

`reconciler.store.views` asks for whole views many times a minute (each pass of the scheduler, each plan); with 10,000
apps, reading and decoding them all takes seconds. So the rows of the last reading are kept, and the next one reads the
rows that the events since then touch: the projection itself says which those are, from the events between the two
checkpoints, all in the transaction of the snapshot. What comes out is what a whole reading would give, row for row. The
whole is read when a rebuild may have changed anything (the checkpoint's generation), when the view went back, or when
more events came than rows are worth.

A reading never changes a mapping that it gave out: a view that moved is a new mapping. The documents in it are shared,
by everybody; nobody changes a document.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from reconciler.core.events import Event
from reconciler.core.folding import Folding
from reconciler.core.projection import Doc, cares_about
from reconciler.core.views import PROJECTIONS
from reconciler.store.limits import (
    MIRROR_CATCH_UP_EVENTS_MAX,
    MIRROR_DECODE_ROWS,
    MIRROR_LOOP_ROWS_MAX,
    MIRROR_VIEW_BYTES_MAX,
)
from reconciler.store.rows import COLUMNS, event_of

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

CHECKPOINTS = "SELECT name, last_applied_event_id, generation FROM checkpoints WHERE name = ANY($1::text[])"

# What touched the views meanwhile.
EVENTS_BETWEEN = f"SELECT {COLUMNS} FROM events WHERE event_id > $1 AND event_id <= $2 ORDER BY event_id"  # noqa: S608

Texts = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Kept:
    """A view as it was at `event_id`. `rows` in the order of their keys."""

    event_id: int
    generation: int
    rows: Mapping[str, Doc]


class ViewMirror:
    """One of each process. `read` is for one caller at a time."""

    def __init__(self) -> None:
        self._log_id = ""
        self._kept: dict[str, Kept] = {}

    async def read(self, connection: Connection, names: Sequence[str], log_id: str) -> dict[str, Kept]:
        """Inside a REPEATABLE READ transaction, whose picture it completes."""
        if log_id != self._log_id:
            self._log_id, self._kept = log_id, {}
        found = {
            name: (event_id, generation) for name, event_id, generation in await connection.fetch(CHECKPOINTS, names)
        }
        now = {name: found.get(name, (0, 0)) for name in names}
        near = {name: kept for name in names if (kept := self._kept.get(name)) and _is_near(kept, *now[name])}
        touched = await _touched(connection, near, {name: now[name][0] for name in near})
        changed = await _changed(connection, touched)
        answer = {}
        for name in names:
            kept = near.get(name)
            if kept is None:
                answer[name] = await self._whole(connection, name, *now[name])
            else:
                answer[name] = self._kept[name] = Kept(*now[name], _after(kept.rows, touched[name], changed[name]))
        return answer

    async def _whole(self, connection: Connection, name: str, event_id: int, generation: int) -> Kept:
        self._kept.pop(name, None)
        rows: dict[str, Doc] = {}
        size_bytes = 0
        async for texts in _pages(connection, f"SELECT key, doc::text FROM view_{name}"):  # noqa: S608  # a checked name
            size_bytes += sum(len(text) for _, text in texts)
            rows.update(await _decoded(texts))
        kept = Kept(event_id, generation, dict(sorted(rows.items())))
        if size_bytes <= MIRROR_VIEW_BYTES_MAX:
            self._kept[name] = kept
        return kept


def _is_near(kept: Kept, event_id: int, generation: int) -> bool:
    return kept.generation == generation and 0 <= event_id - kept.event_id <= MIRROR_CATCH_UP_EVENTS_MAX


async def _touched(connection: Connection, near: Mapping[str, Kept], upto: Mapping[str, int]) -> dict[str, set[str]]:
    """By view, the keys of the rows that events after it and up to its checkpoint may have changed."""
    keys: dict[str, set[str]] = {name: set() for name in near}
    behind = {name: kept.event_id for name, kept in near.items() if kept.event_id < upto[name]}
    if not behind:
        return keys
    first, last = min(behind.values()), max(upto[name] for name in behind)
    events: list[Event] = [event_of(row) for row in await connection.fetch(EVENTS_BETWEEN, first, last)]
    for name, after in behind.items():
        projection = PROJECTIONS[name]
        folding = Folding(projection)
        for event in events:
            if after < event.event_id <= upto[name] and cares_about(projection, event.aggregate_type):
                keys[name] |= folding.keys(event)
    return keys


async def _changed(connection: Connection, touched: Mapping[str, set[str]]) -> dict[str, dict[str, Doc]]:
    """By view, those of the rows that are there."""
    changed: dict[str, dict[str, Doc]] = {name: {} for name in touched}
    wanted = [(name, list(keys)) for name, keys in touched.items() if keys]
    if wanted:
        query = " UNION ALL ".join(
            f"SELECT '{name}', key, doc::text FROM view_{name} WHERE key = ANY(${number}::text[])"  # noqa: S608  # checked names
            for number, (name, _) in enumerate(wanted, start=1)
        )
        found = await connection.fetch(query, *(keys for _, keys in wanted))
        for name, _ in wanted:
            changed[name] = await _decoded([(key, text) for view, key, text in found if view == name])
    return changed


def _after(rows: Mapping[str, Doc], keys: set[str], now: Mapping[str, Doc]) -> Mapping[str, Doc]:
    """`rows` when at most those of `keys` have changed. `now`: those of them that are still there."""
    if not keys:
        return rows
    changed = dict(rows)
    for key in keys - now.keys():
        changed.pop(key, None)
    is_new = bool(now.keys() - rows.keys())
    changed.update(now)
    return {key: changed[key] for key in sorted(changed)} if is_new else changed


async def _pages(connection: Connection, query: str) -> AsyncIterator[Texts]:
    cursor = await connection.cursor(query)
    while found := await cursor.fetch(MIRROR_DECODE_ROWS):
        yield [(key, text) for key, text in found]


async def _decoded(texts: Texts) -> dict[str, Doc]:
    """Many of them in a thread: hooks and streams of this process are answered meanwhile."""
    return _decode(texts) if len(texts) <= MIRROR_LOOP_ROWS_MAX else await asyncio.to_thread(_decode, texts)


def _decode(texts: Texts) -> dict[str, Doc]:
    return {key: _decoder.decode(text) for key, text in texts}


_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
