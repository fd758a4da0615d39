"""View `deployments`: roll-outs of releases. Read by the scheduler and the status.

rolling -> succeeded | failed | superseded; a failed one may still succeed, when a bounded retry gets through.
"""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.projection import Doc, origin_of, require_version, stamped

name = "deployments"
aggregate_types = frozenset({"deployment"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "deployment" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event, newest=2 if event.event_type == "deployment.created" else 1)
    if event.event_type == "deployment.created":
        start = {"status": "rolling", "message": "", "seconds": None}
        return stamped(
            None, event, {**event.payload, **start, "commit": event.cause.commit, "origin": origin_of(event)}
        )
    if row is None or event.event_type != "deployment.status_changed":
        return row
    told = {name: event.payload[name] for name in ("status", "message", "seconds")}
    return stamped(row, event, told)
