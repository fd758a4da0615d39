"""The state of an earlier moment: the log folded up to an event. Pure.

`reconciler.server.history` feeds it pages of the log for GET /v1/state and GET /v1/diff. Memory: the rows of that
moment, never the events. A fold that raises leaves its row as it was and passes over the row's later events, as the
stored views do (`reconciler.store.view_writer`), and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kit.errors import Refusal
from reconciler.core.events import Event
from reconciler.core.explain_names import Found, find
from reconciler.core.explanation import Ambiguous, NothingFound, Rows
from reconciler.core.lifecycles import release_states
from reconciler.core.model import KINDS
from reconciler.core.projection import Doc, cares_about
from reconciler.core.views import PROJECTIONS

FIELDS_OF_SECRET = ("version_id", "keys")
"""What is shown of a secret's specification: never where its ciphertext is, never a value (which no event holds)."""

TOUCHES_MAX = 6
"""Events that are kept of each row that changed."""
TOUCHED_ROWS_MAX = 50_000
"""Rows that a difference may be about: some 100 MB of events. Beyond it nobody reads it."""

_VIEW_OF_KIND: Mapping[str, str] = {
    **dict.fromkeys(KINDS, "resources"),
    **{view.removesuffix("s"): view for view in PROJECTIONS},
    **{view: view for view in PROJECTIONS},
}


@dataclass(slots=True)
class Past:
    """`event_id`: folded so far. `broken`: VIEW/KEY -> why its row does not follow the log any more. `touched`:
    the events that touched a row since `touched` was last cleared, newest last, at most TOUCHES_MAX of each row."""

    views: Collection[str] = tuple(PROJECTIONS)
    event_id: int = 0
    occurred_at: str = ""
    rows: dict[str, dict[str, Doc]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    touched: dict[tuple[str, str], list[Event]] | None = None

    def __post_init__(self) -> None:
        self.rows = {view: self.rows.get(view, {}) for view in sorted(self.views)}

    def fold(self, events: Iterable[Event]) -> None:
        """In the order of the log."""
        for event in events:
            for view in self.rows:
                if cares_about(PROJECTIONS[view], event.aggregate_type):
                    self._fold_into(view, event)
            self.event_id, self.occurred_at = event.event_id, event.occurred_at

    def copy(self) -> dict[str, dict[str, Doc]]:
        """Folds never change a row in place, so the documents can be shared."""
        return {view: dict(rows) for view, rows in self.rows.items()}

    def _fold_into(self, view: str, event: Event) -> None:
        rows, projection = self.rows[view], PROJECTIONS[view]
        try:
            keys = projection.keys(event)
        except Exception as error:  # whatever it is, it stays inside this aggregate
            self.broken[f"{view}/{event.aggregate_type}:{event.aggregate_id}"] = f"event {event.event_id}: {error}"
            return
        for key in sorted(keys):
            name = f"{view}/{key}"
            if name in self.broken:
                continue
            before = rows.get(key)
            try:
                after = projection.fold(key, before, event)
            except Exception as error:  # the same
                self.broken[name] = f"event {event.event_id}: {error}"
                continue
            if after is None:
                rows.pop(key, None)
            else:
                rows[key] = after
            if after is not before and self.touched is not None:
                _note(self.touched, (view, key), event)


def _note(touched: dict[tuple[str, str], list[Event]], key: tuple[str, str], event: Event) -> None:
    """Keeps the first, which usually names the commit, and the newest."""
    if key not in touched and len(touched) >= TOUCHED_ROWS_MAX:
        raise Refusal(
            "tell what changed between the two moments",
            f"more than {TOUCHED_ROWS_MAX} things did",
            fix="name two moments that are nearer to each other, or a kind",
            code="difference_too_large",
        )
    events = touched.setdefault(key, [])
    events.append(event)
    if len(events) > TOUCHES_MAX:
        del events[1]


def is_kind(of: str) -> bool:
    """A kind or a view, and not the name of one thing."""
    return of.lower() in _VIEW_OF_KIND


def views_for(of: str) -> Collection[str]:
    """The views that have to be folded to answer for a kind; all of them for a name."""
    view = _VIEW_OF_KIND.get(of.lower())
    if view == "releases":
        return ("releases", "deployments")  # which say what state a release is in
    return (view,) if view else tuple(PROJECTIONS)


def chosen(rows: Rows, of: str) -> dict[str, dict[str, Doc]] | Ambiguous | NothingFound:
    """The rows of a kind, of a view, or of the one thing with that name; all of them for ""."""
    if not of:
        return {view: dict(found) for view, found in rows.items()}
    kind = of.lower()
    if kind in KINDS:
        return {"resources": {key: row for key, row in rows["resources"].items() if row["kind"] == kind}}
    if view := _VIEW_OF_KIND.get(kind):
        return {view: dict(rows[view])}
    found = find(of, rows)
    if not isinstance(found, Found):
        return found
    view = _VIEW_OF_KIND[found.subject.kind]
    return {view: {found.subject.id: rows[view][found.subject.id]}}


def shown(view: str, row: Doc) -> dict[str, Any]:
    """The row as a reader may see it."""
    document = dict(row)
    if view == "resources" and row.get("kind") == "secret":
        document["spec"] = {name: row["spec"].get(name) for name in FIELDS_OF_SECRET}
    if view == "instances" and "secrets" in row:
        document["secrets"] = [{name: each[name] for name in ("resource_id", "version_id")} for each in row["secrets"]]
    return document


def with_states(releases: Mapping[str, Doc], deployments: Mapping[str, Doc]) -> dict[str, Doc]:
    """The rows of releases with their `state`: see `reconciler.core.lifecycles.release_states`."""
    of_app: dict[str, list[Doc]] = {}
    for row in sorted(deployments.values(), key=lambda each: int(each["created_event_id"])):
        of_app.setdefault(row["app"], []).append(row)
    states = {release: state for each in of_app.values() for release, state in release_states(each).items()}
    return {key: {**row, "state": states.get(key, "available")} for key, row in releases.items()}
