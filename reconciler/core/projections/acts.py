"""View `acts`: what operators hold back or take out now, one row for each act that is not over. Read by the scheduler,
the status, `trueup why`, and by whoever ends the acts whose time has come.

Keys: node/NODE, source/NAME, env/ORG/PROJECT/ENV, app/ORG/PROJECT/ENV/APP (suspensions), hold/APP_RESOURCE_ID. `since`
is when the act began; said anew, with another reason or end, it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.act_scopes import hold_key, node_key
from reconciler.core.events import Event
from reconciler.core.lifecycles import HOLD, SUSPENSION, require
from reconciler.core.projection import Doc, require_version, stamped

name = "acts"
aggregate_types = frozenset({"node", "suspension", "app"})

_ENDS = frozenset({"suspension.ended", "app.hold_ended", "app.deleted"})
_STATE_TOLD = {
    "suspension.begun": (SUSPENSION, "begun", "begun"),
    "suspension.ended": (SUSPENSION, "begun", "ended"),
    "app.held": (HOLD, "held", "held"),
    "app.hold_ended": (HOLD, "held", "ended"),
}
"""table, the state of a row that is there, the state that the event tells."""
_ACT_OF_DUTY: Mapping[str, str] = {"draining": "drain", "disabled": "disable"}


def keys(event: Event) -> frozenset[str]:
    match event.event_type:
        case "node.duty_changed":
            return frozenset({node_key(event.aggregate_id)})
        case "suspension.begun" | "suspension.ended":
            return frozenset({event.aggregate_id})
        case "app.held" | "app.hold_ended" | "app.deleted":
            return frozenset({hold_key(event.aggregate_id)})
        case _:
            return frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    told = event.payload
    if event.event_type in _STATE_TOLD:
        table, on, after = _STATE_TOLD[event.event_type]
        require(table, on if row else "", after, event)
    if event.event_type in _ENDS or told.get("duty") == "active":
        return None
    who = {"actor": event.cause.actor_id, "since": row["since"] if row else event.occurred_at}
    return stamped(row, event, {**_said(event), "reason": told["reason"], "until": told["until"], **who})


def _said(event: Event) -> Doc:
    told = event.payload
    match event.event_type:
        case "node.duty_changed":
            return {"act": _ACT_OF_DUTY[told["duty"]], "node_id": told["node_id"]}
        case "suspension.begun":
            return {"act": "suspend", "scope": told["scope"], "apps": told["apps"]}
        case _:
            held = {name: told[name] for name in ("release_id", "defied_release_id", "defied_commit")}
            return {"act": "hold", "app": told["resource_id"], **held}
