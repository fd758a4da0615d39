"""View `nodes`: the hosts that run microVMs. Read by the scheduler and the status. A node is active once it is
enrolled.
"""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.projection import Doc, require_version_1, stamped

name = "nodes"
aggregate_types = frozenset({"node"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "node" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version_1(event)
    if event.event_type == "node.enrolled":
        fresh = {"state": "active", "reason": ""} if row is None else {}
        return stamped(row, event, {**fresh, **event.payload})
    if row is None or event.event_type != "node.state_changed":
        return row
    return stamped(row, event, {"state": event.payload["state"], "reason": event.payload["reason"]})
