"""View `sources`: the Git sources and the commits they are at. Read by the Git loop and the status."""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.projection import Doc, require_version_1, stamped

name = "sources"
aggregate_types = frozenset({"source", "revision"})

_EVENTS = frozenset({"source.registered", "revision.applied", "revision.refused"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.payload["source_id"]}) if event.event_type in _EVENTS else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version_1(event)
    if event.event_type == "source.registered":
        fresh = {"applied_commit": "", "refused_commit": "", "refused_event_id": 0} if row is None else {}
        return stamped(row, event, {**fresh, **event.payload})
    if row is None:
        return None  # a revision of a source that nobody registered
    commit = event.payload["commit"]
    if event.event_type == "revision.refused":
        return stamped(row, event, {"refused_commit": commit, "refused_event_id": event.event_id}, own=False)
    return stamped(row, event, {"applied_commit": commit, "refused_commit": "", "refused_event_id": 0}, own=False)
