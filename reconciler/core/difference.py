"""What changed between two moments, and because of what. Pure.

`reconciler.server.history` folds the log to the older moment, keeps the rows, folds on to the newer one and calls
`difference`; `trueup diff` prints it. The answer is about what people speak of: resources field by field, instances,
nodes, deployments, sources. Bookkeeping (sequence numbers, counters) is no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reconciler.core.events import Event
from reconciler.core.explain_history import cause_text, name_of, sentence
from reconciler.core.explanation import Rows
from reconciler.core.past import shown
from reconciler.core.projection import Doc

Verb = Literal["created", "updated", "removed", "passed"]
"""`passed`: it came after the older moment and was gone before the newer one."""

VIEWS: Mapping[str, str] = {
    "sources": "source",
    "resources": "resource",
    "deployments": "deployment",
    "instances": "instance",
    "nodes": "node",
    "tombstones": "tombstone",
    "acts": "act",
    "quotas": "quota",
    "identities": "identity",
    "tokens": "token",
    "deliveries": "delivery",
    "snapshots": "snapshot",
    "backups": "backup",
    "restores": "restore",
}
"""In the order in which one thing follows from another. Releases and revisions never change and are named by these."""

_BOOKKEEPING = frozenset({"aggregate_seq", "created_event_id", "updated_event_id", "status_event_id", "counter"})
_UNSAID = frozenset({"workload", "digest", "tokens", "spec_hash", "endpoints", "boot_id", "refused_event_id"})
"""Follows from something else that is said."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """`path` like spec.processes.web.replicas. None is "not there"."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class CausedBy:
    event_id: int
    at: str
    type: str
    what: str
    cause: str
    command_id: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Change:
    """`causes`: the first event that touched it and the newest ones, ascending."""

    kind: str
    key: str
    label: str
    verb: Verb
    fields: tuple[FieldChange, ...] = ()
    causes: tuple[CausedBy, ...] = ()


def difference(before: Rows, after: Rows, touched: Mapping[tuple[str, str], Sequence[Event]]) -> tuple[Change, ...]:
    """`touched`: (view, key) -> the events in between that touched it; what nothing touched did not change."""
    changes = []
    for (view, key), events in touched.items():
        if view not in VIEWS:
            continue
        change = _change(view, key, before[view].get(key), after[view].get(key), events)
        if change is not None:
            changes.append(change)
    order = list(VIEWS.values())
    return tuple(sorted(changes, key=lambda each: (order.index(_family(each.kind)), each.kind, each.key)))


def _family(kind: str) -> str:
    return kind if kind in VIEWS.values() else "resource"


def _change(view: str, key: str, before: Doc | None, after: Doc | None, events: Sequence[Event]) -> Change | None:
    row = after or before
    kind = str(row["kind"]) if row is not None and view == "resources" else _kind_of(view, key)
    made_anew = before is not None and after is not None and before["created_event_id"] != after["created_event_id"]
    fields: tuple[FieldChange, ...] = ()
    verb: Verb = "created" if before is None else "removed"
    if before is None and after is None:
        verb = "passed"
    elif before is not None and after is not None:
        verb, fields = "updated", tuple(fields_of(shown(view, before), shown(view, after)))
        if not fields and not made_anew:
            return None
    return Change(kind, key, name_of(key), verb, fields, tuple(map(_caused_by, events)))


def _kind_of(view: str, key: str) -> str:
    parts = key.split("/")
    return parts[4] if view == "resources" and len(parts) == 6 else VIEWS[view]


def fields_of(before: Any, after: Any, path: str = "") -> Iterable[FieldChange]:
    """Member by member; lists of things with names by their names, other lists as a whole."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after} - (_BOOKKEEPING | _UNSAID if not path else frozenset())):
            yield from fields_of(before.get(name), after.get(name), f"{path}.{name}".strip("."))
    elif (name := _name_in(before, after)) is not None:
        yield from fields_of(_by_name(before, name), _by_name(after, name), path)
    elif before != after:
        yield FieldChange(path, before, after)


def _name_in(*lists: Any) -> str | None:
    """The member that names each item in all of the lists, differently within one list."""
    for name in ("name", "volume"):
        if all(isinstance(items, Sequence) and _names(items, name) for items in lists):
            return name
    return None


def _names(items: Sequence[Any], name: str) -> bool:
    if isinstance(items, str) or not all(isinstance(each, Mapping) and name in each for each in items):
        return False
    return len({str(each[name]) for each in items}) == len(items)


def _by_name(items: Sequence[Any], name: str) -> dict[str, Any]:
    return {str(each[name]): each for each in items}


def _caused_by(event: Event) -> CausedBy:
    cause = event.cause
    return CausedBy(
        event.event_id,
        event.occurred_at,
        event.event_type,
        sentence(event),
        cause_text(cause),
        event.command_id,
        cause.correlation_id,
    )
