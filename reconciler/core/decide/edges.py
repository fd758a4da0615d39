"""What an edge reports of its routes. Called by `reconciler.handlers`. Only transitions are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit.canonical import digest
from kit.errors import Refusal
from kit.wire import RouteReport
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.lifecycles import ROUTE, allowed

Doc = Mapping[str, Any]


def decide_route_report(
    row: Doc | None, edge_id: str, applied_generation: int, report: RouteReport, cause: Cause
) -> Append | Refusal | None:
    """None when the route is gone, or is known to be so already."""
    if row is None:
        return None
    seen = {"status": report.status, "backends": report.backends, "reason_detail": report.reason_detail}
    before = (row.get("observed") or {}).get(edge_id) or {}
    if all(before.get(name) == value for name, value in seen.items()):
        return None
    if not allowed(ROUTE, before.get("status", ""), report.status):
        attempted = f"record {report.status} of route {report.route_id} from edge {edge_id}"
        return Refusal(attempted, f"it is {before.get('status') or 'requested'} there", code="transition_invalid")
    payload = {"resource_id": report.route_id, "edge_id": edge_id, **seen}
    return Append(
        command_id=f"edge-{digest([payload, applied_generation, row['aggregate_seq']], length=32)}",
        body_hash=digest(payload),
        cause=cause,
        events=(NewEvent("route", report.route_id, "route.status_changed", payload),),
        expected={("route", report.route_id): row["aggregate_seq"]},
    )
