"""An operator's imperative acts: what can be asked for, in words that the server, the deciders and the readers share.

Git owns what should run. An act diverges from it for a while: it has an actor and a reason, it is shown until it is
over (view `acts`), and it ends: by another act, at the time that was given with it, or by a commit. Made by
`reconciler.server.acts` and `reconciler.tasks.expiry`, decided in `reconciler.core.decide`, recorded by
`reconciler.handlers.acts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kit.errors import Refusal
from reconciler.core.events import ActorType, Cause
from reconciler.core.explain_names import matches
from reconciler.core.model import ResourceId

Doc = Mapping[str, Any]
Rows = Mapping[str, Mapping[str, Doc]]

Duty = Literal["active", "draining", "disabled"]
"""What an operator lets a node do. `draining`: nothing is placed there, stateless instances move away one after the
other, stateful ones stay. `disabled`: the same, without an end of its own, and that it may fall silent is no
trouble."""

REASON_CHARS_MAX = 500
CANDIDATES_MAX = 10


@dataclass(frozen=True, slots=True)
class SetDuty:
    node_id: str
    duty: Duty


@dataclass(frozen=True, slots=True)
class Suspend:
    """`scope`: source/NAME, env/ENV, or an app as ENV/APP."""

    scope: str


@dataclass(frozen=True, slots=True)
class Resume:
    scope: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Keeps an app on one of its releases although Git says another."""

    app: str
    release_id: str


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    app: str


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Over at once: the scheduler puts another one in its place."""

    instance_id: str


Act = SetDuty | Suspend | Resume | Hold | ReleaseHold | StopInstance


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants an act, why, and until when (RFC 3339; "": until somebody ends it). `body_hash`: of all that was asked;
    the same `command_id` with another one is another act, and refused."""

    command_id: str
    body_hash: str
    actor_type: ActorType
    actor_id: str
    reason: str
    until: str = ""


def cause_of(order: Order, org_id: str = "", **more: Any) -> Cause:
    return Cause(order.actor_type, order.actor_id, org_id, **more)


def node_key(node_id: str) -> str:
    """Of a row of the view `acts`."""
    return f"node/{node_id}"


def source_scope(source_id: str) -> str:
    return f"source/{source_id}"


def env_scope(resource_id: ResourceId) -> str:
    return f"env/{resource_id.org}/{resource_id.project}/{resource_id.env}"


def app_scope(resource_id: ResourceId) -> str:
    return f"app/{resource_id.org}/{resource_id.project}/{resource_id.env}/{resource_id.app}"


def hold_key(app: str) -> str:
    return f"hold/{app}"


def scope_label(scope: str) -> str:
    """As a person says it: source main, environment prod, app prod/site."""
    kind, *parts = scope.split("/")
    return f"{'environment' if kind == 'env' else kind} {'/'.join(parts[2:] if kind != 'source' else parts)}"


def subject_label(row: Doc) -> str:
    """Of a row of the view `acts`."""
    match row["act"]:
        case "hold":
            return f"app {ResourceId.parse(row['app']).short}"
        case "suspend":
            return scope_label(row["scope"])
        case _:
            return f"node {row['node_id']}"


def suspensions_of(resource_id: ResourceId, acts: Mapping[str, Doc]) -> Iterable[Doc]:
    """The suspensions of its app and of its environment, the eldest first."""
    found = [acts[scope] for scope in (env_scope(resource_id), app_scope(resource_id)) if scope in acts]
    return sorted(found, key=lambda row: int(row["created_event_id"]))


def replicas_of(app_row: Doc) -> dict[str, int]:
    """How many of each process are wanted: what Git says, and for processes that only a held release knows what ran
    when the hold began."""
    said = {name: int(spec.get("replicas", 1)) for name, spec in app_row["spec"]["processes"].items()}
    return {**((app_row.get("hold") or {}).get("replicas") or {}), **said}


def find_app(text: str, rows: Rows) -> str:
    """The resource_id of the app that is called so. Raises `Refusal`."""
    apps = [key for key, row in rows["resources"].items() if row["kind"] == "app"]
    return _only(text, f"find the app {text!r}", apps if text in apps else [*_matching(text, apps)])


def find_scope(text: str, rows: Rows) -> str:
    """source/NAME, env/ORG/PROJECT/ENV or app/ORG/PROJECT/ENV/APP. Raises `Refusal`."""
    attempted, known = f"find the scope {text!r}", _scopes(rows)
    if text in known:
        return text
    kind, _, name = text.partition("/")
    if kind == "env":
        return _only(text, attempted, [scope for scope in known if scope.startswith("env/") and _ends(scope, name)])
    if kind != "source":
        wanted = text.removeprefix("app/")
        return _only(text, attempted, [scope for scope in known if scope.startswith("app/") and _ends(scope, wanted)])
    return _only(text, attempted, [])


def _scopes(rows: Rows) -> set[str]:
    """All that can be suspended, and all that is: Git may have removed it since."""
    resources = [ResourceId.parse(key) for key in rows["resources"]]
    return {
        *(source_scope(source_id) for source_id in rows["sources"]),
        *(env_scope(each) for each in resources),
        *(app_scope(each) for each in resources if each.kind == "app"),
        *(key for key, row in rows["acts"].items() if row["act"] == "suspend"),
    }


def _ends(scope: str, name: str) -> bool:
    return bool(name) and scope.endswith(f"/{name}")


def _matching(text: str, apps: Iterable[str]) -> Iterable[str]:
    return (app for app in apps if matches(text.strip("/"), ResourceId.parse(app)))


def _only(text: str, attempted: str, candidates: Iterable[str]) -> str:
    found = sorted(candidates)
    if len(found) == 1:
        return found[0]
    if not found:
        fix = "source/NAME, env/ENV or ENV/APP; `trueup status` lists them"
        raise Refusal(attempted, "there is nothing of that name", fix=fix, code="not_found")
    shown = ", ".join(found[:CANDIDATES_MAX])
    raise Refusal(attempted, f"it may mean any of {len(found)} things", fix=f"say which: {shown}", code="ambiguous")


def is_over(row: Doc, now: datetime) -> bool:
    """The time that was given with the act has come."""
    return bool(row["until"]) and datetime.fromisoformat(row["until"]) <= now


def ending(key: str, row: Doc) -> Act:
    """What ends the act with that row."""
    match row["act"]:
        case "suspend":
            return Resume(key)
        case "hold":
            return ReleaseHold(row["app"])
        case _:
            return SetDuty(row["node_id"], "active")
