"""A source that nobody follows any more is removed, with all that it declared. Called by `reconciler.handlers`.

The only way in which resources go without a commit that says so: an operator asks for it, names how many there are, and
says so once more when volumes are among them. Nobody may follow the source meanwhile; the caller holds its lease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kit.canonical import digest
from kit.errors import Refusal
from reconciler.core.commands import Append, Claim
from reconciler.core.decide.git.resources import held_claims
from reconciler.core.decide.git.state import resource_event
from reconciler.core.events import Cause, NewEvent
from reconciler.core.model import KINDS, ResourceId

Doc = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Removal:
    """`resources`: how many the operator expects to go. `volumes`: whether their data may go too."""

    source_id: str
    resources: int
    volumes: bool
    reason: str
    actor_id: str


def decide_removal(removal: Removal, source: Doc | None, rows: Sequence[Doc]) -> Append | Refusal | None:
    """`rows`: of the view `resources`, what the source declared. None: it is removed already."""
    attempted = f"remove the source {removal.source_id}"
    if source is None:
        return Refusal(attempted, "there is no such source", fix="see: trueup source list", code="not_found")
    if source.get("removed") and not rows:
        return None
    if removal.resources != len(rows):
        why = f"it has {len(rows)} resources, and the order is for {removal.resources}"
        return Refusal(attempted, why, fix=f"if all of them are meant: --delete-resources {len(rows)}", code="conflict")
    if protected := [ResourceId.parse(row["resource_id"]).short for row in rows if row.get("protect")]:
        why = f"{len(protected)} of them are protected: {', '.join(protected[:5])}"
        fix = "follow the source again and take the protection out of the manifests first"
        return Refusal(attempted, why, fix=fix, code="conflict")
    volumes = [ResourceId.parse(row["resource_id"]).short for row in rows if row["kind"] == "volume"]
    if volumes and not removal.volumes:
        why = f"the data of {len(volumes)} volumes would be lost: {', '.join(volumes[:5])}"
        return Refusal(attempted, why, fix="if that is meant: --delete-volumes", code="conflict")
    ordered = sorted(rows, key=lambda row: (-KINDS.index(row["kind"]), row["resource_id"]))
    payload = {"source_id": removal.source_id, "resources": len(rows), "reason": removal.reason}
    events = [*(_deleted(row) for row in ordered), NewEvent("source", removal.source_id, "source.removed", payload)]
    expected = {(str(row["kind"]), str(row["resource_id"])): int(row["aggregate_seq"]) for row in rows}
    seq = int(source["aggregate_seq"])
    return Append(
        command_id=f"source-removed-{digest([removal.source_id, seq], length=32)}",
        body_hash=digest([payload, sorted(str(row["resource_id"]) for row in rows)]),
        cause=Cause("user", removal.actor_id, str(source["org"]), source_id=removal.source_id),
        events=tuple(events),
        expected={**expected, ("source", removal.source_id): seq},
        free=tuple(sorted({claim for row in rows for claim in _held(row)}, key=lambda claim: (claim.kind, claim.key))),
    )


def _deleted(row: Doc) -> NewEvent:
    identity = ResourceId.parse(row["resource_id"])
    home = {"node_id": row.get("home_node", "")} if identity.kind == "volume" else {}
    return resource_event(identity, "deleted", **home)


def _held(row: Doc) -> frozenset[Claim]:
    return held_claims(row, ResourceId.parse(row["resource_id"]))
