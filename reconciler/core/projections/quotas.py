"""View `quotas`: what organisations and projects may hold. Read by the scheduler and the status. The limits of an
environment are in its row of `resources`.
"""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.projection import Doc, require_version, stamped

name = "quotas"
aggregate_types = frozenset({"quota"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "quota" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    """A row stays when nothing is limited any more: its version is what the next change is decided on."""
    require_version(event)
    return stamped(row, event, {**event.payload, "set_by": event.cause.actor_id})
