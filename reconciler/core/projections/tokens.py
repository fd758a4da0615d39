"""View `tokens`: the tokens of people and CI, by their ids. Read by the server, which asks it about every token.

`digest` is keyed: who reads it can neither use it nor try secrets against it. `revoked`: why, or empty.
"""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.projection import Doc, begun, require_version, stamped

name = "tokens"
aggregate_types = frozenset({"token"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "token" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    if event.event_type == "token.created":
        who = {"created_by": event.cause.actor_id, "created_at": event.occurred_at}
        return stamped(row, event, {**event.payload, **who, "revoked": ""})
    return stamped(begun(row, event), event, {"revoked": event.payload["reason"]})
