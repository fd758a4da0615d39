"""An operator keeps an app on one of its releases although Git says another. Called by `reconciler.handlers`.

A hold names the release and the commit that it defies, and makes a deployment of the release that it wants. It ends by
the operator or at its time, with a deployment of what Git says; or with the commit that declares another release than
the
defied one (`reconciler.core.decide.git.rollouts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kit.errors import Refusal
from reconciler.core.acts import Order, cause_of
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.lifecycles import HOLD, allowed
from reconciler.core.model import ResourceId
from reconciler.core.releases import deployment_id, release_id

Doc = Mapping[str, Any]
_SHOWN_MAX = 5


def decide_hold(
    row: Doc, release: str, releases: Mapping[str, Doc], running: Iterable[Doc], order: Order
) -> Append | Refusal:
    """`row`: of the app. `running`: rows of instances, of which its own are counted."""
    app = row["resource_id"]
    attempted = f"hold {ResourceId.parse(app).short} on release {release}"
    wanted, declared = releases.get(release), release_id(app, row["spec"])
    if wanted is None or wanted["app"] != app:
        return Refusal(attempted, "it has no such release", fix=_known(app, declared, releases), code="not_found")
    if release == declared:
        return Refusal(attempted, "this is what Git says", fix="nothing is to be held", code="transition_invalid")
    if not allowed(HOLD, "held" if row.get("hold") else "", "held"):
        return Refusal(attempted, "it cannot be held now", code="transition_invalid")
    payload = {
        "resource_id": app,
        "release_id": release,
        "defied_release_id": declared,
        "defied_commit": str((row.get("origin") or {}).get("commit") or ""),
        "replicas": _unknown_to_git(row, wanted, running),
        "reason": order.reason,
        "until": order.until,
    }
    rolls = () if row["release_id"] == release else (_deployment(row, release, "rollback", "hold"),)
    return _append(row, (NewEvent("app", app, "app.held", payload), *rolls), _cause(order, app, wanted), order)


def decide_release_hold(row: Doc, order: Order) -> Append | Refusal:
    """Back to what Git says."""
    app = row["resource_id"]
    if not allowed(HOLD, "held" if row.get("hold") else "ended", "ended"):
        return Refusal(
            f"release the hold of {ResourceId.parse(app).short}", "it is not held", code="transition_invalid"
        )
    declared = release_id(app, row["spec"])
    ended = NewEvent("app", app, "app.hold_ended", {"resource_id": app, "reason": order.reason})
    rolls = () if row["release_id"] == declared else (_deployment(row, declared, "deploy", "hold_ended"),)
    return _append(row, (ended, *rolls), _cause(order, app, row), order)


def _append(row: Doc, events: tuple[NewEvent, ...], cause: Cause, order: Order) -> Append:
    created = {(each.aggregate_type, each.aggregate_id): 0 for each in events[1:]}
    expected = {("app", row["resource_id"]): row["aggregate_seq"], **created}
    return Append(order.command_id, order.body_hash, cause, events, expected)


def _cause(order: Order, app: str, made_by: Doc) -> Cause:
    """What follows names the commit that wrote what will run."""
    origin = made_by.get("origin") or {}
    known = {name: origin[name] for name in ("source_id", "commit", "path", "line") if name in origin}
    return cause_of(order, app.split("/", 1)[0], **known)


def _deployment(row: Doc, release: str, kind: str, reason: str) -> NewEvent:
    app = row["resource_id"]
    made = deployment_id(app, release, reason, again_from=str(row["aggregate_seq"]))
    payload = {"deployment_id": made, "app": app, "release_id": release, "kind": kind, "reason": reason}
    return NewEvent("deployment", made, "deployment.created", payload, event_version=2)


def _unknown_to_git(row: Doc, release: Doc, running: Iterable[Doc]) -> dict[str, int]:
    """How many of each process that Git's specification has no more: as many as run now, and one at least."""
    gone = set(release["spec"]["processes"]) - set(row["spec"]["processes"])
    mine = [each["process"] for each in running if each["app"] == row["resource_id"] and each["desired"] == "running"]
    return {process: max(1, mine.count(process)) for process in sorted(gone)}


def _known(app: str, declared: str, releases: Mapping[str, Doc]) -> str:
    mine = sorted((each for each in releases.values() if each["app"] == app), key=lambda each: -int(each["number"]))
    others = [
        f"{each['release_id']} of commit {each['commit'][:12]}" for each in mine if each["release_id"] != declared
    ]
    return f"it has {', '.join(others[:_SHOWN_MAX])}" if others else "it never had another release"
