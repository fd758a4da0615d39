"""What an act is about: the keys of the view `acts`, and how people name what they mean. Pure.

A scope is source/NAME, env/ORG/PROJECT/ENV or app/ORG/PROJECT/ENV/APP. Used by whoever writes or reads acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kit.errors import Refusal
from reconciler.core.explain_names import matches
from reconciler.core.model import ResourceId

Doc = Mapping[str, Any]
Rows = Mapping[str, Mapping[str, Doc]]
CANDIDATES_MAX = 10


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
