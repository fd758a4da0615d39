"""An operator keeps a source, an environment or an app from following Git, and lets it go on. Called by
`reconciler.handlers`.

What there is of each app of the scope when the suspension begins is written down with it: this, and not what Git says
later or what the scheduler had still to do, is kept up until the end. Of a source nothing needs to be: none of its
commits is applied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kit.errors import Refusal
from reconciler.core.act_scopes import app_scope, env_scope, scope_label
from reconciler.core.acts import Order, cause_of, replicas_of
from reconciler.core.commands import Append
from reconciler.core.events import NewEvent
from reconciler.core.lifecycles import SUSPENSION, allowed
from reconciler.core.model import ResourceId

Doc = Mapping[str, Any]


def decide_suspend(
    scope: str, row: Doc | None, resources: Mapping[str, Doc], instances: Iterable[Doc], order: Order
) -> Append:
    """`row`: of the view acts, if it is suspended already; what was frozen then stays so. `instances`: all there
    are."""
    apps = [] if row is not None else [each for each in _apps(scope, resources) if each["release_id"]]
    present = Counter((each["app"], each["process"]) for each in instances if each.get("status") != "stopped")
    frozen = list(row["apps"]) if row is not None else [_frozen(each, present) for each in apps]
    payload = {"scope": scope, "reason": order.reason, "until": order.until, "apps": frozen}
    mine = {("suspension", scope): int(row["aggregate_seq"])} if row is not None else {}
    return Append(
        command_id=order.command_id,
        body_hash=order.body_hash,
        cause=cause_of(order, _org(scope)),
        events=(NewEvent("suspension", scope, "suspension.begun", payload),),
        expected={**mine, **{("app", each["resource_id"]): each["aggregate_seq"] for each in apps}},
    )


def decide_resume(scope: str, row: Doc | None, order: Order) -> Append | Refusal:
    if row is None or not allowed(SUSPENSION, "begun", "ended"):
        return Refusal(f"resume {scope_label(scope)}", "it is not suspended", code="transition_invalid")
    payload = {"scope": scope, "reason": order.reason}
    return Append(
        command_id=order.command_id,
        body_hash=order.body_hash,
        cause=cause_of(order, _org(scope)),
        events=(NewEvent("suspension", scope, "suspension.ended", payload),),
        expected={("suspension", scope): row["aggregate_seq"]},
    )


def _apps(scope: str, resources: Mapping[str, Doc]) -> Iterable[Doc]:
    for key in sorted(resources):
        if resources[key]["kind"] == "app":
            app = ResourceId.parse(key)
            if scope in (app_scope(app), env_scope(app)):
                yield resources[key]


def _frozen(row: Doc, present: Counter[tuple[str, str]]) -> Doc:
    """As many as Git wants, but not more than there are: those on their way out count, since others take their
    place."""
    app = row["resource_id"]
    return {
        "app": app,
        "release_id": row["release_id"],
        "deployment_id": row["deployment_id"],
        "replicas": {name: min(count, present[app, name]) for name, count in replicas_of(row).items()},
    }


def _org(scope: str) -> str:
    kind, org = scope.split("/")[:2]
    return "" if kind == "source" else org
