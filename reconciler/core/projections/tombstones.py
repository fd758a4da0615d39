"""View `tombstones`: deleted volumes whose data is still on their home node. Read by the scheduler and the node plans.

From volume.deleted with a home to that node's word that the data is gone. The key names the node too: a volume that is
declared anew under the same id may by then have another home.
"""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.projection import Doc, require_version, stamped

name = "tombstones"
aggregate_types = frozenset({"volume"})

_EVENTS = frozenset({"volume.deleted", "volume.status_changed"})


def keys(event: Event) -> frozenset[str]:
    if event.event_type not in _EVENTS or not event.payload["node_id"]:
        return frozenset()
    return frozenset({f"{event.aggregate_id}@{event.payload['node_id']}"})


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    if event.event_type == "volume.deleted":
        return stamped(None, event, {"resource_id": event.payload["resource_id"], "node_id": event.payload["node_id"]})
    return None if event.payload["status"] == "deleted" else row
