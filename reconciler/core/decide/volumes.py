"""What an agent reports of its volumes. Called by `reconciler.handlers`.

Only transitions are recorded. A node speaks about the volumes that live on it, and about those that it had to delete
(their tombstone). Anything else is old news and changes nothing, except a node's word about a volume of another node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit.canonical import digest
from kit.errors import Refusal
from kit.wire import VolumeReport
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.lifecycles import VOLUME, allowed

Doc = Mapping[str, Any]


def decide_volume_report(
    row: Doc | None, tombstone: Doc | None, node_id: str, report: VolumeReport, cause: Cause
) -> Append | Refusal | None:
    """`row`: the volume if it is declared now. `tombstone`: of this volume on this node, if it waits there."""
    here = row is not None and row.get("home_node") == node_id
    if tombstone is None and not here:
        return _stray(row, node_id, report)
    if report.status == "deleted" and tombstone is None:
        return None
    if here and row is not None and tombstone is None and _unchanged(row, report):
        return None
    if tombstone is not None and report.status not in ("deleted", "failed"):
        return None
    if here and row is not None and not allowed(VOLUME, row.get("status", ""), report.status):
        attempted = f"record {report.status} of volume {report.volume_id} from node {node_id}"
        return Refusal(attempted, f"it is {row.get('status') or 'not seen yet'} there", code="transition_invalid")
    payload = {
        "resource_id": report.volume_id,
        "node_id": node_id,
        "status": report.status,
        "reason_detail": report.reason_detail,
    }
    return Append(
        command_id=f"report-{node_id}-{report.counter}-{digest(payload, length=24)}",
        body_hash=digest(payload),
        cause=cause,
        events=(NewEvent("volume", report.volume_id, "volume.status_changed", payload),),
        expected={},
    )


def _unchanged(row: Doc, report: VolumeReport) -> bool:
    detail = (row.get("observed") or {}).get("reason_detail", "")
    return bool(row.get("status") == report.status and detail == report.reason_detail)


def _stray(row: Doc | None, node_id: str, report: VolumeReport) -> Refusal | None:
    if row is None or not row.get("home_node"):
        return None
    attempted = f"record {report.status} of volume {report.volume_id} from node {node_id}"
    return Refusal(attempted, f"it lives on node {row['home_node']}", code="volume_foreign")
