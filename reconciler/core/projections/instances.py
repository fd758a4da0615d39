"""View `instances`: microVMs, as wanted and as observed. Read by the scheduler, the node plans and the route plans.

A row lives from instance.allocated until its status is stopped and it is not desired running. The same instance
allocated again with a higher epoch starts with nothing observed; a report of an older epoch is about a run that is
over. What neither `lifecycles.INSTANCE_DESIRED` nor INSTANCE_STATUS allows is not folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.core.events import Event
from reconciler.core.lifecycles import INSTANCE_DESIRED, INSTANCE_STATUS, require
from reconciler.core.projection import Doc, require_version, stamped

name = "instances"
aggregate_types = frozenset({"instance"})

_NOTHING_OBSERVED: Mapping[str, Any] = {
    "status": "",
    "boot_id": "",
    "reason_code": "",
    "reason_detail": "",
    "exit_code": None,
    "restarts": 0,
    "endpoints": [],
    "status_event_id": 0,
    "counter": 0,
}

_OBSERVED = tuple(field for field in _NOTHING_OBSERVED if field != "status_event_id")


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "instance" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    if event.event_type == "instance.allocated":
        again = row is not None and event.payload["epoch"] > row["epoch"]
        require(INSTANCE_DESIRED, "" if row is None or again else row["desired"], "running", event)
        told = {name: value for name, value in event.payload.items() if name != "overhead_bytes" or value}
        return stamped(row, event, {**told, "desired": "running", "reason": "", **_NOTHING_OBSERVED})
    if row is None:
        return None  # over; the log keeps its history
    match event.event_type:
        case "instance.desired_state_changed":
            require(INSTANCE_DESIRED, row["desired"], event.payload["desired"], event)
            wanted = {field: event.payload[field] for field in ("desired", "drain_grace_s", "reason")}
            return _unless_over(stamped(row, event, wanted))
        case "instance.status_changed":
            return _unless_over(stamped(row, event, _observed(row, event)))
        case _:
            return row


def _observed(row: Doc, event: Event) -> Doc:
    if event.payload["epoch"] < row["epoch"]:
        return {}
    require(INSTANCE_STATUS, row["status"], event.payload["status"], event)
    told = {field: event.payload[field] for field in _OBSERVED}
    return {**told, "status_event_id": event.event_id}


def _unless_over(row: Doc) -> Doc | None:
    return None if row["status"] == "stopped" and row["desired"] != "running" else row
