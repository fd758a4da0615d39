"""The shape of a projection: a pure fold of the log into the rows of one view.

Implemented by each module of `reconciler.core.projections`, gathered in `reconciler.core.views`, driven through
`reconciler.core.folding` and by `reconciler.core.replay`. A fold sees one row and one event; it never changes the row
that it is given. Every row carries the fields of `stamped`. A projection may have `aggregate_types`, a frozenset: it
never cares about an event of another type of aggregate, and is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kit.errors import Bug
from reconciler.core.events import NEWEST, Event

Doc = Mapping[str, Any]


class Projection(Protocol):
    @property
    def name(self) -> str:
        """The view's name; its table is view_NAME."""
        ...

    def keys(self, event: Event) -> frozenset[str]:
        """The rows that the event may touch; empty for an event that this view does not care about."""
        ...

    def fold(self, key: str, row: Doc | None, event: Event) -> Doc | None:
        """The row after the event. None: there is no such row (any more)."""
        ...


def cares_about(projection: Projection, aggregate_type: str) -> bool:
    """False: no event of such an aggregate touches a row of the view."""
    mine: frozenset[str] | None = getattr(projection, "aggregate_types", None)
    return mine is None or aggregate_type in mine


def stamped(row: Doc | None, event: Event, changes: Doc, *, own: bool = True) -> dict[str, Any]:
    """`row` with `changes` and the bookkeeping. `own`: the event belongs to the row's own aggregate."""
    before = row or {"aggregate_seq": 0, "created_event_id": event.event_id}
    return {
        **before,
        **changes,
        "aggregate_seq": event.aggregate_seq if own else before["aggregate_seq"],
        "updated_event_id": event.event_id,
    }


def origin_of(event: Event) -> dict[str, Any]:
    """Where in Git the event comes from."""
    cause = event.cause
    return {"source_id": cause.source_id, "commit": cause.commit, "path": cause.path, "line": cause.line}


def require_version(event: Event) -> None:
    """A fold that meets a version that it was not written for must not guess."""
    if event.event_version != NEWEST.get(event.event_type, 1):
        raise Bug(
            f"fold event {event.event_id} ({event.event_type})",
            f"version {event.event_version} is not known to this projection",
            fix="run the version of trueup that wrote it, or a newer one, and rebuild the view",
            code="event_version_unknown",
        )


def begun(row: Doc | None, event: Event) -> Doc:
    """The row of a thing that never loses it. An event about one that nothing began is not one that a command wrote."""
    if row is None:
        raise Bug(
            f"fold event {event.event_id} ({event.event_type} of {event.aggregate_id})",
            "no event began it",
            fix="find who wrote it with `trueup events`; docs/runbooks/projection-wrong.md says how to go on",
            code="transition_invalid",
        )
    return row
