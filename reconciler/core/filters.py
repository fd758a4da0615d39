"""Which readers of the change stream an event concerns.

Called by `reconciler.server.ring` for each event once; a reader holds one key that comes from its identity, so the
filter is exact and costs one look-up. An operator's key, which matches everything, is added there.
`reconciler.store.event_queries` says the same in SQL.
"""

from __future__ import annotations

from reconciler.core.events import Event

EDGE = "edge"
_NODE = "node:"
EDGE_AGGREGATE = "route"
EDGE_INSTANCE_EVENTS = frozenset({"instance.allocated", "instance.desired_state_changed", "instance.status_changed"})


def node_key(node_id: str) -> str:
    return f"{_NODE}{node_id}"


def node_of(key: str) -> str:
    """The node whose key it is; "" for another key."""
    return key.removeprefix(_NODE) if key.startswith(_NODE) else ""


def keys(event: Event) -> frozenset[str]:
    """ "node:NODE" for the node that the payload names, "edge" for what can change a route plan."""
    found = set()
    node_id = event.payload.get("node_id")
    if isinstance(node_id, str) and node_id:
        found.add(node_key(node_id))
    if event.aggregate_type == EDGE_AGGREGATE or event.event_type in EDGE_INSTANCE_EVENTS:
        found.add(EDGE)
    return frozenset(found)
