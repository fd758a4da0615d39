"""Folds events into the rows of one view, and keeps what cannot be folded apart. Pure: rows and events in, rows out.

The one fold with three drivers: `reconciler.store.view_writer` (live: a page onto the stored rows),
`reconciler.store.rebuild` (the whole log onto nothing) and `reconciler.core.steps` (one key, each step shown). A fold
that raises puts its row into quarantine: the row stays as it was, its later events are passed over, all others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from reconciler.core.events import Event
from reconciler.core.projection import Doc, Projection

ERROR_CHARACTERS_MAX = 2_000


class Row(NamedTuple):
    """`doc` is None for a row that is gone. `event_id`: the last event that changed it."""

    doc: Doc | None
    event_id: int


_new_row: Callable[[type[Row], tuple[Doc | None, int]], Row] = tuple.__new__
"""Row(...) without what a NamedTuple does about defaults and names: a rebuild makes one for each event."""


class Failure(NamedTuple):
    """A key that goes into quarantine."""

    key: str
    event_id: int
    event_type: str
    error: str


class Folding:
    """The rows of one view, in memory. `rows` may begin with what is stored; `blocked` are the keys in quarantine."""

    def __init__(self, projection: Projection, rows: dict[str, Row] | None = None, blocked: Iterable[str] = ()) -> None:
        self.projection = projection
        self._keys, self._fold = projection.keys, projection.fold
        self.rows: dict[str, Row] = {} if rows is None else rows
        self.changed: set[str] = set()
        self.failures: dict[str, Failure] = {}  # the first one of each key
        self.blocked: set[str] = set(blocked)

    def keys(self, event: Event) -> frozenset[str]:
        """The rows that the event touches. An event whose rows cannot even be told is named by its aggregate."""
        try:
            return self.projection.keys(event)
        except Exception as error:  # whatever it is, it stays inside this aggregate
            self._failed(f"{event.aggregate_type}:{event.aggregate_id}", event, error)
            return frozenset()

    def fold(self, event: Event) -> None:
        try:
            keys = self._keys(event)
        except Exception:
            keys = self.keys(event)  # says so
        rows, blocked = self.rows, self.blocked
        for key in keys:
            if key in blocked:
                continue
            held = rows.get(key)
            before = None if held is None else held.doc
            try:
                after = self._fold(key, before, event)
            except Exception as error:  # whatever it is, it stays inside this row
                self._failed(key, event, error)
                blocked.add(key)
                continue
            if after is not before:
                rows[key] = _new_row(Row, (after, event.event_id))
                self.changed.add(key)

    def _failed(self, key: str, event: Event, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}".replace("\x00", "")[:ERROR_CHARACTERS_MAX]
        self.failures.setdefault(key, Failure(key, event.event_id, event.event_type, text))
