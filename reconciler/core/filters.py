"""Which readers of the change stream an event concerns.

Called by `reconciler.server.ring` for each event once; a reader holds one key that comes from its identity, so the
filter is exact and costs one look-up. An operator's key, which matches everything, is added there.
"""

from __future__ import annotations

from reconciler.core.events import Event

EDGE = "edge"
_EDGE_INSTANCE_EVENTS = frozenset({"instance.allocated", "instance.desired_state_changed", "instance.status_changed"})


def node_key(node_id: str) -> str:
    return f"node:{node_id}"


def keys(event: Event) -> frozenset[str]:
    """ "node:NODE" for the node that the payload names, "edge" for what can change a route plan."""
    found = set()
    node_id = event.payload.get("node_id")
    if isinstance(node_id, str) and node_id:
        found.add(node_key(node_id))
    if event.aggregate_type == "route" or event.event_type in _EDGE_INSTANCE_EVENTS:
        found.add(EDGE)
    return frozenset(found)
