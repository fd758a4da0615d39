"""When a revision has become true. Called by `reconciler.tasks.scheduler` after a pass.

revision.converged: the revision is the one that its source has applied last, every deployment that it made succeeded,
every app that it changed is as it should be and is not held back by an operator, and every route that it made has a
row. A revision that was overtaken before that never converges; the next one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kit.canonical import digest
from reconciler.core.act_scopes import hold_key, suspensions_of
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.lifecycles import REVISION, allowed
from reconciler.core.model import ResourceId
from reconciler.core.scheduler.record import ACTOR

Doc = Mapping[str, Any]
Rows = Mapping[str, Mapping[str, Doc]]
_UNKNOWN: Doc = {"status": ""}


def applied_revisions(rows: Rows) -> frozenset[str]:
    """Those that wait for convergence."""
    newest = {f"{key}@{source.get('applied_commit')}" for key, source in rows["sources"].items()}
    revisions = rows["revisions"]
    return frozenset(key for key in newest if allowed(REVISION, revisions.get(key, _UNKNOWN)["status"], "converged"))


def converged(rows: Rows, matching: frozenset[str], begun_s: Mapping[str, float], now_s: float) -> Iterable[Append]:
    """`matching`: apps whose every process is as it should be. `begun_s`: when a revision was first seen applied."""
    for key in sorted(applied_revisions(rows)):
        row = rows["revisions"][key]
        if _deployments_succeeded(rows, row) and all(_true(rows, matching, change) for change in row["changes"]):
            seconds = round(max(now_s - begun_s.get(key, now_s), 0.0), 3)
            yield _append(key, row, rows["sources"][row["source_id"]].get("org", ""), seconds)


def _deployments_succeeded(rows: Rows, revision: Doc) -> bool:
    """A deployment's own source is in its app's origin; another source with the same commit id does no harm."""
    resources = rows["resources"]
    for deployment in rows["deployments"].values():
        mine = (deployment.get("origin") or {}).get("source_id") == revision["source_id"]
        current = resources.get(deployment["app"], {}).get("deployment_id") == deployment["deployment_id"]
        if mine and current and deployment["commit"] == revision["commit"] and deployment["status"] != "succeeded":
            return False
    return True


def _true(rows: Rows, matching: frozenset[str], change: Doc) -> bool:
    resource_id = change["resource_id"]
    if _held_back(rows, resource_id):
        return False
    if change["verb"] == "delete":
        return resource_id not in rows["resources"]
    if change["verb"] == "retain":
        return True
    if ResourceId.parse(resource_id).kind == "app":
        return resource_id in matching
    return resource_id in rows["resources"]


def _held_back(rows: Rows, resource_id: str) -> bool:
    identity, acts = ResourceId.parse(resource_id), rows.get("acts", {})
    return identity.kind == "app" and (hold_key(resource_id) in acts or any(suspensions_of(identity, acts)))


def _append(key: str, row: Doc, org: str, seconds: float) -> Append:
    payload = {"source_id": row["source_id"], "commit": row["commit"], "seconds": seconds}
    cause = Cause(
        actor_type="system",
        actor_id=ACTOR,
        org_id=org,
        source_id=row["source_id"],
        commit=row["commit"],
        correlation_id=key,
    )
    return Append(
        command_id=f"converged-{digest([key, row['aggregate_seq']], length=32)}",
        body_hash=digest([key, row["aggregate_seq"]]),
        cause=cause,
        events=(NewEvent("revision", key, "revision.converged", payload),),
        expected={("revision", key): row["aggregate_seq"]},
    )
