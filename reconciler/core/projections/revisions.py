"""View `revisions`: every commit that was looked at, SOURCE@COMMIT. Read by the Git loop, the status and `explain`.

Each event is named after the state that it leads to: `lifecycles.REVISION`. `held`: the apps that an applied commit
left as they were, and why.
"""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.lifecycles import REVISION, require
from reconciler.core.projection import Doc, require_version, stamped

name = "revisions"
aggregate_types = frozenset({"revision"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "revision" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    status = event.event_type.removeprefix("revision.")
    require(REVISION, "" if row is None else row["status"], status, event)
    if status == "converged":
        return stamped(row, event, {"status": status, "seconds": event.payload["seconds"]})
    looked_at = {"changes": [], **event.payload, "status": status, "at": event.occurred_at, "seconds": None}
    return stamped(row, event, looked_at)
