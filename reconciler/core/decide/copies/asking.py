"""Who may ask for a snapshot, a backup or a restore, and of what. See `reconciler.core.copies`.

People and the controller's own loops ask, for volumes of their organisation; a node only tells. Of one volume one
snapshot is at work at a time, of one snapshot one backup, into one volume one restore: the claim is taken with the
event, and freed when the work is over. What cannot be is refused before it is queued. Whoever records a restore takes
the scheduler's fence with it, as for an act (`reconciler.handlers.acts`): no pass that did not know of it gets through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kit.canonical import digest
from kit.errors import Refusal
from reconciler.core.claims import as_claims
from reconciler.core.commands import Append, Conflict
from reconciler.core.copies import WORKS, Work
from reconciler.core.events import Cause, NewEvent

Doc = Mapping[str, Any]


def ask_snapshot(
    snapshot_id: str, volume_id: str, volume: Doc | None, node: Doc | None, note: str, cause: Cause
) -> Append | Refusal:
    """`volume` and `node` (its home): rows of the views. A volume whose node never showed it has nothing to copy."""
    attempted = f"take a snapshot of volume {volume_id}"
    seen = volume is not None and volume["status"] in ("available", "in_use")
    refusal = (
        _may_ask(attempted, cause, volume_id)
        or (None if seen else _no(attempted, "volume_not_found", "no node has shown its data"))
        or _eligible(attempted, node)
    )
    if refusal is not None or volume is None:
        return refusal or _no(attempted, "volume_not_found", "it is not declared")
    told = {"volume_id": volume_id, "node_id": volume["home_node"], "volume_bytes": volume["spec"]["size_bytes"]}
    expected = {("volume", volume_id): volume["aggregate_seq"]}
    return _asked(WORKS["snapshot"], snapshot_id, {**told, "note": note}, cause, expected)


def ask_backup(
    backup_id: str, snapshot_id: str, snapshot: Doc | None, node: Doc | None, cause: Cause
) -> Append | Refusal:
    """`node`: the row of the node where the snapshot is."""
    attempted = f"back up snapshot {snapshot_id}"
    refusal = _usable(attempted, "snapshot", snapshot)
    if refusal is not None or snapshot is None:
        return refusal or _no(attempted, "snapshot_not_found", "there is none")
    refusal = _may_ask(attempted, cause, snapshot["volume_id"]) or _eligible(attempted, node)
    if refusal is not None:
        return refusal
    told = {name: snapshot[name] for name in ("snapshot_id", "volume_id", "node_id", "volume_bytes")}
    expected = {("snapshot", snapshot_id): snapshot["aggregate_seq"]}
    return _asked(WORKS["backup"], backup_id, told, cause, expected)


@dataclass(frozen=True, slots=True)
class Restoring:
    """What a restore is asked to do. `kind`: snapshot or backup; `origin`: its row. `volume`: the row of the volume to
    fill. `node`: the row of the node that shall have it."""

    kind: str
    origin_id: str
    origin: Doc | None
    volume_id: str
    volume: Doc | None
    node: Doc | None


def ask_restore(restore_id: str, wanted: Restoring, cause: Cause) -> Append | Refusal:
    """Into a volume that was never placed: nothing is ever overwritten. A snapshot is restored where it is."""
    attempted = f"restore {wanted.kind} {wanted.origin_id} into volume {wanted.volume_id}"
    origin, volume, node = wanted.origin, wanted.volume, wanted.node
    refusal = (
        _may_ask(attempted, cause, wanted.volume_id)
        or _usable(attempted, wanted.kind, origin)
        or _may_ask(attempted, cause, origin["volume_id"] if origin else wanted.volume_id)
        or _fillable(attempted, volume, origin)
        or _eligible(attempted, node)
    )
    if refusal is not None or origin is None or volume is None or node is None:
        return refusal or _no(attempted, "volume_not_found", "it is not declared")
    if wanted.kind == "snapshot" and node["node_id"] != origin["node_id"]:
        return _no(attempted, "node_not_eligible", f"the snapshot is on node {origin['node_id']}")
    told = {
        "volume_id": wanted.volume_id,
        "node_id": node["node_id"],
        "origin_kind": wanted.kind,
        "origin_id": wanted.origin_id,
        "origin_volume_id": origin["volume_id"],
    }
    expected = {
        ("volume", wanted.volume_id): volume["aggregate_seq"],
        (wanted.kind, wanted.origin_id): origin["aggregate_seq"],
    }
    return _asked(WORKS["restore"], restore_id, told, cause, expected)


def in_progress(conflict: Conflict) -> Refusal | None:
    """What the asker is told when the claim stands against it: one at a time. None for another conflict."""
    kind, _, key = conflict.subject.partition(":")
    if conflict.kind != "claim" or kind not in WORKS:
        return None
    why = f"{kind} {conflict.found} of {key} is at work"
    return Refusal(f"ask for a {kind}", why, fix="wait until that one is over", code=f"{kind}_in_progress")


def _asked(
    work: Work, work_id: str, told: Mapping[str, Any], cause: Cause, expected: Mapping[tuple[str, str], int]
) -> Append:
    payload = {work.id_field: work_id, **told}
    return Append(
        command_id=f"{work.kind}-{work_id}",
        body_hash=digest(payload),
        cause=cause,
        events=(NewEvent(work.kind, work_id, f"{work.kind}.created", payload),),
        expected={(work.kind, work_id): 0, **expected},
        take=as_claims(work.claims(payload)),
    )


def _may_ask(attempted: str, cause: Cause, volume_id: str) -> Refusal | None:
    if cause.actor_type == "service_principal":
        return Refusal(attempted, f"{cause.actor_id} reports; it does not ask", code="forbidden")
    org = volume_id.partition("/")[0]
    if cause.org_id != org:
        return Refusal(attempted, f"it belongs to the organisation {org}", code="forbidden")
    return None


def _usable(attempted: str, kind: str, row: Doc | None) -> Refusal | None:
    missing = {"snapshot": "snapshot_not_found", "backup": "backup_metadata_missing"}[kind]
    if row is None:
        return _no(attempted, missing, f"there is no such {kind}")
    if row["status"] != "succeeded":
        return _no(attempted, "snapshot_not_succeeded", f"the {kind} is {row['status']}")
    return None


def _fillable(attempted: str, volume: Doc | None, origin: Doc | None) -> Refusal | None:
    if volume is None:
        return _no(attempted, "volume_not_found", "it is not declared")
    if volume["home_node"]:
        return Refusal(
            attempted,
            f"it has data on node {volume['home_node']}",
            fix="declare a new volume and restore into that",
            code="volume_not_new",
        )
    size, needed = volume["spec"]["size_bytes"], origin["volume_bytes"] if origin else 0
    return _no(attempted, "no_capacity", f"it has {size} bytes, the data {needed}") if size < needed else None


def _eligible(attempted: str, node: Doc | None) -> Refusal | None:
    if node is None or node["state"] != "active":
        return _no(attempted, "node_not_eligible", f"node {node['node_id']} is {node['state']}" if node else "no node")
    return None


def _no(attempted: str, code: str, why: str) -> Refusal:
    return Refusal(attempted, why, fix=_FIX[code], code=code)


_FIX = {
    "volume_not_found": "name a declared volume; `trueup status` lists them",
    "snapshot_not_found": "name a snapshot of the view `snapshots`",
    "snapshot_not_succeeded": "wait for it, or take another one",
    "backup_metadata_missing": "name a backup of the view `backups`",
    "no_capacity": "declare a larger volume",
    "node_not_eligible": "bring the node back, or choose another",
}
