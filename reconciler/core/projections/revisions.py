"""View `revisions`: every commit that was looked at, SOURCE@COMMIT. Read by the Git loop, the status and `explain`.

refused -> applied -> converged. A refused commit may be applied later (a guard was lifted); an applied one is never
refused.
"""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.projection import Doc, require_version_1, stamped

name = "revisions"
aggregate_types = frozenset({"revision"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "revision" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version_1(event)
    match event.event_type:
        case "revision.refused":
            return _looked_at(row, event, {"status": "refused", "changes": []})
        case "revision.applied":
            return _looked_at(row, event, {"status": "applied"})
        case "revision.converged" if row is not None:
            return stamped(row, event, {"status": "converged", "seconds": event.payload["seconds"]})
        case _:
            return row


def _looked_at(row: Doc | None, event: Event, more: Doc) -> Doc:
    return stamped(row, event, {**event.payload, **more, "at": event.occurred_at, "seconds": None})
