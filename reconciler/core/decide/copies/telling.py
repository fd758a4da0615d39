"""What a node tells of a snapshot, a backup or a restore, and what is pruned. See `reconciler.core.copies`.

What could not be foreseen when the work was asked for fails here, with a reason of the closed list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kit.canonical import digest
from kit.errors import Refusal
from reconciler.core.claims import as_claims
from reconciler.core.commands import Append
from reconciler.core.copies import OVER, REASONS, WORKS, Work
from reconciler.core.events import Cause, NewEvent, newest_version
from reconciler.core.lifecycles import BACKUP, allowed

Doc = Mapping[str, Any]
PLACED = "volume.placed"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a node tells. `object`: the name in the object store. `key_id`: of the key that the backup's own key is
    wrapped with; no key is ever part of an event."""

    status: str
    size_bytes: int | None = None
    sha256: str = ""
    object: str = ""
    key_id: str = ""
    reason_code: str = ""
    reason_detail: str = ""


def decide_progress(
    kind: str, row: Doc | None, node_id: str, progress: Progress, cause: Cause, volume: Doc | None = None
) -> Append | Refusal | None:
    """What node `node_id` tells of its work `row`. None when that is known, or the work is unknown: old news. `volume`:
    of a restore, the row of the volume; a restore into one that is gone, or has got a home meanwhile, has failed."""
    if row is None or row["status"] == progress.status:
        return None
    work = WORKS[kind]
    attempted = f"record {progress.status} of {kind} {row[work.id_field]} from node {node_id}"
    if row["node_id"] != node_id:
        return Refusal(attempted, f"it is the work of node {row['node_id']}", code=f"{kind}_foreign")
    wrong = _complaint(work, progress)
    if wrong:
        return Refusal(attempted, wrong, fix="correct what the agent reports", code="report_invalid")
    if not allowed(work.table, row["status"], progress.status):
        return Refusal(attempted, f"it is {row['status']}", code="transition_invalid")
    if kind == "restore" and progress.status == "succeeded" and (volume is None or volume["home_node"]):
        why = "the volume is not declared any more" if volume is None else f"it has a home, {volume['home_node']}"
        progress = Progress("failed", reason_code="volume_not_found", reason_detail=why)
    return _told(work, row, progress, cause, volume)


def prune_backup(row: Doc, of_volume: Iterable[Doc], volume: Doc | None, cause: Cause) -> Append | Refusal:
    """`of_volume`: all backups of the same volume. The newest good one of a living volume stays, whoever asks."""
    attempted = f"prune backup {row['backup_id']}"
    if not allowed(BACKUP, row["status"], "pruned"):
        return Refusal(attempted, f"it is {row['status']}", code="transition_invalid")
    newer = [each for each in of_volume if each["created_event_id"] > row["created_event_id"]]
    if volume is not None and not any(each["status"] == "succeeded" for each in newer):
        why = f"it is the newest good one of volume {row['volume_id']}"
        return Refusal(attempted, why, fix="make another backup first", code="backup_newest")
    kept = {name: row[name] for name in WORKS["backup"].made}
    return _told(WORKS["backup"], row, Progress("pruned", **kept), cause, None)


def _told(work: Work, row: Doc, progress: Progress, cause: Cause, volume: Doc | None) -> Append:
    work_id, status = row[work.id_field], progress.status
    names = ("status", *work.made, "reason_code", "reason_detail")
    about = {name: row[name] for name in (work.id_field, "volume_id", "node_id")}
    payload = {**about, **{name: getattr(progress, name) for name in names}}
    events = [NewEvent(work.kind, work_id, f"{work.kind}.status_changed", payload)]
    expected = {(work.kind, work_id): row["aggregate_seq"]}
    if work.kind == "restore" and status == "succeeded" and volume is not None:
        placed = {"resource_id": row["volume_id"], "node_id": row["node_id"], "previous_node_id": volume["home_node"]}
        events.append(NewEvent("volume", row["volume_id"], PLACED, placed, newest_version(PLACED)))
        expected["volume", row["volume_id"]] = volume["aggregate_seq"]
    return Append(
        command_id=f"{work.kind}-{work_id}-{status}",
        body_hash=digest(payload),
        cause=cause,
        events=tuple(events),
        expected=expected,
        free=as_claims(work.claims(row)) if status in OVER else (),
    )


def _complaint(work: Work, progress: Progress) -> str:
    if progress.status not in work.table:
        return f"a {work.kind} is never {progress.status}"
    if progress.status == "failed" and progress.reason_code not in REASONS:
        return f"{progress.reason_code!r} is no reason: one of {', '.join(REASONS)}"
    missing = [name for name in work.made if getattr(progress, name) in (None, "")]
    if progress.status == "succeeded" and missing:
        return f"it does not say {', '.join(missing)}"
    return ""
