"""How one row of a view came to be: every event that touched it, with what it changed. Pure.

Called by `reconciler.server.projections` for `trueup views explain VIEW KEY`. It folds with the code that runs now, so
it also shows what a rebuild would do to the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.core.events import Event
from reconciler.core.folding import Folding
from reconciler.core.projection import Doc, Projection


@dataclass(frozen=True, slots=True)
class Step:
    """`changed`: field -> its new value; `removed`: fields that went. `row`: absent, made, changed, same, gone or
    failed."""

    event_id: int
    at: str
    event_type: str
    row: str
    changed: Mapping[str, Any]
    removed: tuple[str, ...]
    error: str = ""


class Tracing:
    """One key, folded event after event."""

    def __init__(self, projection: Projection, key: str) -> None:
        self._folding = Folding(projection)
        self._key = key

    @property
    def doc(self) -> Doc | None:
        row = self._folding.rows.get(self._key)
        return None if row is None else row.doc

    def steps(self, events: Iterable[Event]) -> Iterator[Step]:
        for event in events:
            if self._key in self._folding.keys(event):
                yield self._step(event)

    def _step(self, event: Event) -> Step:
        before, blocked = self.doc, self._key in self._folding.blocked
        self._folding.fold(event)
        after = self.doc
        changed = {name: value for name, value in (after or {}).items() if (before or {}).get(name, _NONE) != value}
        removed = tuple(sorted(set(before or {}) - set(after or {})))
        error = self._folding.failures[self._key].error if self._key in self._folding.failures else ""
        if blocked:
            error = "passed over: an earlier event of this row could not be folded"
        word = "failed" if error else _word(before, after)
        return Step(event.event_id, event.occurred_at, event.event_type, word, changed, removed, error)


_NONE = object()


def _word(before: Doc | None, after: Doc | None) -> str:
    if after is before:
        return "absent" if after is None else "same"
    if after is None:
        return "gone"
    return "made" if before is None else "changed"
