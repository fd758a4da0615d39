"""View `releases`: the numbered specifications of apps. They never change. Read by the scheduler and the status."""

from __future__ import annotations

from reconciler.core.events import Event
from reconciler.core.lifecycles import RELEASE, require
from reconciler.core.projection import Doc, origin_of, require_version, stamped

name = "releases"
aggregate_types = frozenset({"release"})


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.event_type == "release.created" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    require(RELEASE, "" if row is None else "available", "available", event)
    return stamped(row, event, {**event.payload, "commit": event.cause.commit, "origin": origin_of(event)})
