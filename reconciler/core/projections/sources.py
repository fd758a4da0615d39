"""View `sources`: the Git sources and the commits they are at. Read by the Git loop and the status.

`seen_commit` (absent: never) is the newest head that was looked at.

`suspended` (absent: never) and `suspension_seq`, the version of its suspension: a revision is applied only if that has
not moved since it was decided. `held_back`: app -> unreadable files, of the applied commit ("" for an unknown app;
absent before version 2 of revision.applied). `applied_as`: how the source was bound (org, project, path) when its
commit was applied. `removed`: why an operator removed it with all that it declared, "" unless so; then it begins anew.
"""

from __future__ import annotations

from reconciler.core.act_scopes import source_scope
from reconciler.core.events import Event
from reconciler.core.lifecycles import SOURCE, require
from reconciler.core.projection import Doc, require_version, stamped

name = "sources"
aggregate_types = frozenset({"source", "revision", "suspension"})

_EVENTS = frozenset({"source.registered", "source.removed", "revision.seen", "revision.applied", "revision.refused"})
_KIND = source_scope("").rstrip("/")


def keys(event: Event) -> frozenset[str]:
    if event.aggregate_type == "suspension":
        kind, _, source_id = event.aggregate_id.partition("/")
        return frozenset({source_id}) if kind == _KIND else frozenset()
    return frozenset({event.payload["source_id"]}) if event.event_type in _EVENTS else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    if event.event_type == "source.registered":
        require(SOURCE, _state(row), "active", event)
        fresh = {"applied_commit": "", "refused_commit": "", "refused_event_id": 0} if row is None else {}
        told = {name: value for name, value in event.payload.items() if name != "previous_org"}
        return stamped(row, event, {**fresh, **told, "removed": ""})
    if row is None:
        return None  # a revision of a source that nobody registered
    if event.aggregate_type == "suspension":
        suspended = event.event_type == "suspension.begun"
        return stamped(row, event, {"suspended": suspended, "suspension_seq": event.aggregate_seq}, own=False)
    if event.event_type == "source.removed":
        require(SOURCE, _state(row), "removed", event)
        nothing = {"applied_commit": "", "refused_commit": "", "refused_event_id": 0, "held_back": {}}
        return stamped(row, event, {**nothing, "removed": event.payload["reason"]})
    commit = event.payload["commit"]
    if event.event_type == "revision.seen":
        return stamped(row, event, {"seen_commit": commit}, own=False)
    if event.event_type == "revision.refused":
        return stamped(row, event, {"refused_commit": commit, "refused_event_id": event.event_id}, own=False)
    held_back = {each["app"]: each["files"] for each in event.payload.get("held", ())}
    applied_as = {name: row[name] for name in ("org", "project", "path")}
    applied = {"applied_commit": commit, "applied_as": applied_as, "held_back": held_back}
    return stamped(row, event, {**applied, "refused_commit": "", "refused_event_id": 0}, own=False)


def _state(row: Doc | None) -> str:
    return "" if row is None else "removed" if row.get("removed") else "active"
