"""What the commit changes, field by field, and which confirmations it lacks. Called by `preview`.

Told from the events that the deciders made, held against the rows that they were made on: a declaration that is true
already makes no event, and is no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.core.commands import Append
from reconciler.core.difference import FieldChange, fields_of
from reconciler.core.events import Cause, NewEvent
from reconciler.core.findings import Finding
from reconciler.core.model import KINDS, ResourceId
from reconciler.core.past import FIELDS_OF_SECRET
from reconciler.core.planner import Plan
from reconciler.core.preview.document import Confirmation, PlannedChange
from reconciler.core.preview.world import Rows
from reconciler.core.projection import Doc
from reconciler.core.revisions import ChangeVerb
from reconciler.core.trailers import CONFIRM_DELETE, CONFIRM_DELETIONS

_VERBS: Mapping[str, ChangeVerb] = {
    "created": "create",
    "updated": "update",
    "moved": "move",
    "marked": "mark",
    "retained": "retain",
    "deleted": "delete",
}


def changes(rows: Rows, batch: Iterable[Append]) -> Iterator[PlannedChange]:
    """In the order in which they are applied. What is updated as it is taken over is one change."""
    for append in batch:
        types = {event.event_type for event in append.events}
        for event in append.events:
            kind, _, what = event.event_type.partition(".")
            merged = what == "moved" and f"{kind}.updated" in types
            if kind in KINDS and what in _VERBS and not merged:
                yield _change(rows, event, _VERBS[what], append.cause)


def planned_changes(planned: Plan) -> Iterator[PlannedChange]:
    """Of a plan that is refused: what it asked for."""
    for each in planned.changes:
        yield PlannedChange(each.verb, each.resource_id.short, str(each.resource_id), each.path, each.line)


def confirmations(planned: Plan | None, findings: Iterable[Finding]) -> Iterator[Confirmation]:
    """Lines that a commit's message needs before the rest of what Git says can happen."""
    for each in planned.changes if planned else ():
        if each.verb == "retain":
            why = f"the {each.resource_id.kind} is gone from Git, and is kept until its removal is confirmed"
            yield Confirmation(f"{CONFIRM_DELETE}: {each.resource_id.short}", each.resource_id.short, why)
    if planned and any(finding.code == "too_many_deletions" for finding in findings):
        count = len(planned.deletions)
        yield Confirmation(f"{CONFIRM_DELETIONS}: {count}", "", f"the commit deletes {count} resources")


def _change(rows: Rows, event: NewEvent, verb: ChangeVerb, cause: Cause) -> PlannedChange:
    identity = ResourceId.parse(event.aggregate_id)
    row = rows["resources"].get(event.aggregate_id)
    origin = (row or {}).get("origin") or {}
    path, line = (cause.path, cause.line) if cause.path else (origin.get("path", ""), origin.get("line", 0))
    declared = bool(origin) and verb in ("update", "move")
    owner = origin.get("source_id", "") if declared else ""
    was_source = owner if owner != cause.source_id else ""
    moved = declared and (bool(was_source) or (origin.get("path"), origin.get("line")) != (path, line))
    return PlannedChange(
        verb=verb,
        resource=identity.short,
        resource_id=str(identity),
        path=path,
        line=line,
        was_path=origin.get("path", "") if moved else "",
        was_line=origin.get("line", 0) if moved else 0,
        was_source=was_source,
        fields=tuple(_fields(identity, event)) if verb == "update" else (),
        note=_mark_note(event) if verb == "mark" else _note(identity, row, verb),
    )


def _fields(identity: ResourceId, event: NewEvent) -> Iterable[FieldChange]:
    before, after = event.payload["previous_spec"], event.payload["spec"]
    return fields_of(_shown(identity, before), _shown(identity, after), "spec")


def _shown(identity: ResourceId, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a secret its version and the names of its keys; never where its ciphertext is."""
    return {name: spec.get(name) for name in FIELDS_OF_SECRET} if identity.kind == "secret" else spec


def _mark_note(event: NewEvent) -> str:
    said = "protected" if event.payload["protect"] else "not protected"
    return f"{said}, its removal is confirmed" if event.payload["removal"] else said


def _note(identity: ResourceId, row: Doc | None, verb: ChangeVerb) -> str:
    row = row or {}
    if verb == "delete" and identity.kind == "volume":
        home = row.get("home_node") or ""
        return f"its data on {home} is deleted for good" if home else "it holds no data yet"
    if verb == "retain":
        return "kept: nobody confirmed its removal"
    if verb == "update" and row.get("retained"):
        return "it was retained, and is declared again"
    return ""
