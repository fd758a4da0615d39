"""View `deployments`: roll-outs of releases. Read by the scheduler and the status. States: `lifecycles.DEPLOYMENT`."""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.lifecycles import DEPLOYMENT, require
from reconciler.core.projection import Doc, begun, origin_of, require_version, stamped

name = "deployments"
aggregate_types = frozenset({"deployment"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "deployment" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    if event.event_type == "deployment.created":
        require(DEPLOYMENT, "" if row is None else row["status"], "rolling", event)
        start = {"status": "rolling", "message": "", "seconds": None}
        return stamped(
            None, event, {**event.payload, **start, "commit": event.cause.commit, "origin": origin_of(event)}
        )
    if event.event_type != "deployment.status_changed":
        return row
    row = begun(row, event)
    require(DEPLOYMENT, row["status"], event.payload["status"], event)
    told = {name: event.payload[name] for name in ("status", "message", "seconds")}
    return stamped(row, event, told)
