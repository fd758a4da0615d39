"""When a revision has become true, and when it has not. Called by `reconciler.tasks.scheduler` after a pass.

Only the revision that its source has applied last is looked at; for those before it revision.superseded was told.
revision.converged: every deployment that it made succeeded, every app that it changed is as it should be and is not
held back by an operator, and every route that it made has a row. revision.failed, once: a deployment of it failed, or
it did not converge within CONVERGENCE_LIMIT_S, the time left out in which an operator held back what it needs. A failed
one may still converge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kit.canonical import digest
from reconciler.core.act_scopes import hold_key, suspensions_of
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.lifecycles import REVISION, allowed
from reconciler.core.model import ResourceId
from reconciler.core.scheduler.limits import CONVERGENCE_LIMIT_S
from reconciler.core.scheduler.record import ACTOR
from reconciler.core.scheduler.times import Times

Doc = Mapping[str, Any]
Rows = Mapping[str, Mapping[str, Doc]]

DEPLOYMENTS_TOLD_MAX = 20
NAMES_TOLD_MAX = 3
MESSAGE_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class Waiting:
    """Revisions that may still converge. `free`: those of them that no operator holds back."""

    revisions: frozenset[str] = frozenset()
    free: frozenset[str] = frozenset()


def waiting(rows: Rows) -> Waiting:
    revisions = rows["revisions"]
    newest = {f"{key}@{source.get('applied_commit')}" for key, source in rows["sources"].items()}
    open_ones = {key for key in newest if _may_become(revisions.get(key), "converged")}
    held = {key for key in open_ones if rows.get("acts") and any(_needs_held(rows, revisions[key]))}
    return Waiting(frozenset(open_ones), frozenset(open_ones - held))


def outcomes(
    rows: Rows, matching: frozenset[str], times: Times, now_s: float, limit_s: float = CONVERGENCE_LIMIT_S
) -> Iterable[Append]:
    """`matching`: apps whose every process is as it should be. `times`: as `Times.observe` left them with what
    `waiting` says of these rows."""
    for key in sorted(waiting(rows).revisions):
        row = rows["revisions"][key]
        unsettled = [each for each in _deployments(rows, row) if each["status"] != "succeeded"]
        seconds = round(max(now_s - times.begun_s.get(key, now_s), 0.0), 3)
        if not unsettled and not any(_missing(rows, matching, row)):
            yield _append(rows, key, "converged", {"seconds": seconds})
        elif _may_become(row, "failed"):
            late = now_s - times.free_s.get(key, now_s) >= limit_s
            missing = sorted(_missing(rows, matching, row)) if late else []
            if (why := _why_failed(unsettled, missing, late)) is not None:
                yield _append(rows, key, "failed", {**why, "seconds": seconds})


def next_limit_s(rows: Rows, times: Times, limit_s: float = CONVERGENCE_LIMIT_S) -> float | None:
    """When the next of them is late. None: nothing is awaited."""
    awaited = [key for key in waiting(rows).free if _may_become(rows["revisions"][key], "failed")]
    return min((times.free_s[key] + limit_s for key in awaited if key in times.free_s), default=None)


def _may_become(row: Doc | None, status: str) -> bool:
    return row is not None and allowed(REVISION, row["status"], status)


def _why_failed(unsettled: list[Doc], missing: list[str], late: bool) -> dict[str, Any] | None:
    failed = sorted((each for each in unsettled if each["status"] == "failed"), key=lambda each: str(each["app"]))
    if failed:
        names = _names([str(each["app"]) for each in failed])
        message = f"{names}: {failed[0]['message']}"
        told = [
            {"deployment_id": each["deployment_id"], "app": each["app"], "message": _cut(each["message"])}
            for each in failed[:DEPLOYMENTS_TOLD_MAX]
        ]
        return {"reason": "deployment_failed", "message": _cut(message), "deployments": told}
    if not late:
        return None
    left = _names(sorted({*missing, *(str(each["app"]) for each in unsettled)}))
    return {"reason": "not_converged", "message": _cut(f"it takes too long: {left}"), "deployments": []}


def _names(resource_ids: list[str]) -> str:
    told = ", ".join(ResourceId.parse(each).short for each in resource_ids[:NAMES_TOLD_MAX])
    more = len(resource_ids) - NAMES_TOLD_MAX
    return f"{told} and {more} more" if more > 0 else told


def _cut(text: str) -> str:
    return text[:MESSAGE_CHARACTERS_MAX]


def _deployments(rows: Rows, revision: Doc) -> Iterable[Doc]:
    """Those that the revision made and that are still their app's. A deployment's own source is in its app's origin;
    another source with the same commit id does no harm."""
    resources = rows["resources"]
    for deployment in rows["deployments"].values():
        mine = (deployment.get("origin") or {}).get("source_id") == revision["source_id"]
        current = resources.get(deployment["app"], {}).get("deployment_id") == deployment["deployment_id"]
        if mine and current and deployment["commit"] == revision["commit"]:
            yield deployment


def _missing(rows: Rows, matching: frozenset[str], revision: Doc) -> Iterable[str]:
    """What it changed and is not as it should be."""
    return (each["resource_id"] for each in revision["changes"] if not _true(rows, matching, each))


def _needs_held(rows: Rows, revision: Doc) -> Iterable[bool]:
    return (_held_back(rows, each["resource_id"]) for each in revision["changes"])


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


def _append(rows: Rows, key: str, verb: str, told: Mapping[str, Any]) -> Append:
    row = rows["revisions"][key]
    payload = {"source_id": row["source_id"], "commit": row["commit"], **told}
    cause = Cause(
        actor_type="system",
        actor_id=ACTOR,
        org_id=rows["sources"][row["source_id"]].get("org", ""),
        source_id=row["source_id"],
        commit=row["commit"],
        correlation_id=key,
    )
    return Append(
        command_id=f"{verb}-{digest([key, row['aggregate_seq']], length=32)}",
        body_hash=digest([key, row["aggregate_seq"]]),
        cause=cause,
        events=(NewEvent("revision", key, f"revision.{verb}", payload),),
        expected={("revision", key): row["aggregate_seq"]},
    )
