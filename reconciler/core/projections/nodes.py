"""View `nodes`: the hosts that run microVMs. Read by the scheduler and the status. States: NODE and NODE_DUTY of
`lifecycles`.

`state` is what is heard of it, `duty` what an operator lets it do (absent: never said otherwise, so active). Neither
touches the other: a draining node that falls silent and comes back is still draining.
"""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.lifecycles import NODE, NODE_DUTY, require
from reconciler.core.projection import Doc, begun, require_version, stamped

name = "nodes"
aggregate_types = frozenset({"node"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "node" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    if event.event_type == "node.enrolled":
        fresh = {"state": "active", "reason": ""} if row is None else {}
        return stamped(row, event, {**fresh, **event.payload})
    row = begun(row, event)
    match event.event_type:
        case "node.state_changed":
            require(NODE, row["state"], event.payload["state"], event)
            return stamped(row, event, {"state": event.payload["state"], "reason": event.payload["reason"]})
        case "node.duty_changed":
            require(NODE_DUTY, row.get("duty") or "active", event.payload["duty"], event)
            return stamped(row, event, {"duty": event.payload["duty"], "duty_reason": event.payload["reason"]})
        case _:
            return row
