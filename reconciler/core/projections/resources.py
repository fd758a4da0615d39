"""View `resources`: what the repositories declare, and what is observed of it. Read by the planner, the scheduler, the
plans.

A row lives from KIND.created to KIND.deleted; what is reported of a resource after that changes nothing. `status` is
what is observed: of an app the state of its current deployment, of a volume what its node says, of a route `failed`
when one edge says so and `active` when all do; "" before anything is known. `hold`: an operator keeps the app on
another release than Git's (absent or null: nobody does). `held_back`: the applied commit left the app as it was, and
why (absent or null: it did not). `protect`, `removal`: what the manifest says about its own removal (absent: nothing).
What the lifecycles of secret, volume and route do not allow is not folded. An app only repeats what its deployment
says: a word that the deployment may not say puts that into quarantine (view `deployments`), and leaves the app as it
was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.core.events import Event
from reconciler.core.lifecycles import DEPLOYMENT, HOLD, ROUTE, SECRET, VOLUME, allowed, require, secret_state
from reconciler.core.model import KINDS, ResourceId
from reconciler.core.projection import Doc, origin_of, require_version, stamped

name = "resources"
aggregate_types = frozenset({*KINDS, "deployment", "revision"})

_OF_KIND: Mapping[str, Mapping[str, Any]] = {
    "app": {"release_id": "", "deployment_id": "", "unschedulable": {}},
    "volume": {"home_node": ""},
}

_UNTOLD = {"status": ""}
_DEPLOYMENT_EVENTS = frozenset({"deployment.created", "deployment.status_changed"})


def keys(event: Event) -> frozenset[str]:
    if event.aggregate_type in KINDS:
        return frozenset({event.aggregate_id})
    if event.event_type == "revision.applied":
        held = (each["app"] for each in event.payload.get("held", ()))
        return frozenset({*filter(None, held), *event.payload.get("released", ())})
    return frozenset({event.payload["app"]}) if event.event_type in _DEPLOYMENT_EVENTS else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    if event.event_type in _DEPLOYMENT_EVENTS:
        return None if row is None else _deployment(row, event)
    if event.event_type == "revision.applied":
        return None if row is None else _revision(key, row, event)
    kind, _, what = event.event_type.partition(".")
    if kind == "secret":
        _require_secret(row, what, event)
    if what == "created":
        return stamped(None, event, _fresh(key, kind, event))
    if row is None or what == "deleted":
        return None
    change = _CHANGES.get(what)
    return row if change is None else stamped(row, event, change(row, event))


def _require_secret(row: Doc | None, what: str, event: Event) -> None:
    """Every event about a secret tells its state."""
    if row is not None or what == "created":
        require(SECRET, secret_state(row), _SECRET_AFTER.get(what, "current"), event)


_SECRET_AFTER = {"retained": "retained", "deleted": "removed"}


def _fresh(key: str, kind: str, event: Event) -> dict[str, Any]:
    parts = ResourceId.parse(key)
    return {
        "resource_id": key,
        "org": parts.org,
        "project": parts.project,
        "env": parts.env,
        "app": parts.app,
        "kind": parts.kind,
        "name": parts.name,
        "spec": event.payload["spec"],
        "retained": "",
        "status": "",
        "observed": {},
        "origin": origin_of(event),
        **_OF_KIND.get(kind, {}),
    }


def _updated(row: Doc, event: Event) -> Doc:
    return {"spec": event.payload["spec"], "retained": "", "origin": origin_of(event)}


def _moved(row: Doc, event: Event) -> Doc:
    return {"retained": "", "origin": origin_of(event)}


def _retained(row: Doc, event: Event) -> Doc:
    """The origin stays: it names the last manifest, which is gone."""
    return {"retained": event.payload["reason"]}


def _placed(row: Doc, event: Event) -> Doc:
    return {"home_node": event.payload["node_id"]}


def _status_changed(row: Doc, event: Event) -> Doc:
    told = event.payload
    if row["kind"] != "route":
        if told["node_id"] != row["home_node"]:
            return {}  # of a life before this one: the volume was declared anew and lives elsewhere
        require(VOLUME, row["status"], told["status"], event)
        return {"status": told["status"], "observed": {k: told[k] for k in ("node_id", "status", "reason_detail")}}
    require(ROUTE, row["observed"].get(told["edge_id"], _UNTOLD)["status"], told["status"], event)
    edge = {k: told[k] for k in ("status", "backends", "reason_detail")}
    observed = {**row["observed"], told["edge_id"]: edge}
    failed = any(each["status"] == "failed" for each in observed.values())
    return {"status": "failed" if failed else "active", "observed": observed}


def _unschedulable(row: Doc, event: Event) -> Doc:
    told = event.payload
    return {
        "unschedulable": {
            **row["unschedulable"],
            told["process"]: {"reason": told["reason"], "message": told["message"]},
        }
    }


def _schedulable(row: Doc, event: Event) -> Doc:
    return {"unschedulable": {k: v for k, v in row["unschedulable"].items() if k != event.payload["process"]}}


def _held(row: Doc, event: Event) -> Doc:
    require(HOLD, _hold_state(row), "held", event)
    names = ("release_id", "defied_release_id", "defied_commit", "replicas", "reason", "until")
    return {"hold": {**{name: event.payload[name] for name in names}, "actor": event.cause.actor_id}}


def _hold_ended(row: Doc, event: Event) -> Doc:
    require(HOLD, _hold_state(row), "ended", event)
    return {"hold": None}


def _marked(row: Doc, event: Event) -> Doc:
    """Said by the manifest, so its origin is where it says it."""
    told = event.payload
    return {"protect": told["protect"], "removal": told["removal"], "origin": origin_of(event)}


def _revision(key: str, row: Doc, event: Event) -> Doc:
    """Whether the commit holds the app back; None once one applies to it."""
    held = next((each for each in event.payload.get("held", ()) if each["app"] == key), None)
    why = held and {"source_id": event.payload["source_id"], "commit": event.payload["commit"], **held}
    return stamped(row, event, {"held_back": why}, own=False)


def _hold_state(row: Doc) -> str:
    return "held" if row.get("hold") else ""


def _deployment(row: Doc, event: Event) -> Doc:
    """An older deployment's end says nothing about the app."""
    told = event.payload
    if event.event_type == "deployment.created":
        if row["deployment_id"] == told["deployment_id"]:
            return row
        changes = {"release_id": told["release_id"], "deployment_id": told["deployment_id"], "status": "rolling"}
        return stamped(row, event, changes, own=False)
    if row["deployment_id"] != told["deployment_id"] or not allowed(DEPLOYMENT, row["status"], told["status"]):
        return row
    return stamped(row, event, {"status": told["status"]}, own=False)


_CHANGES: Mapping[str, Callable[[Doc, Event], Doc]] = {
    "updated": _updated,
    "moved": _moved,
    "marked": _marked,
    "retained": _retained,
    "placed": _placed,
    "status_changed": _status_changed,
    "unschedulable": _unschedulable,
    "schedulable": _schedulable,
    "held": _held,
    "hold_ended": _hold_ended,
}
