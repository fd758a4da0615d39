"""The document of GET /v1/status: the whole system on one page. Pure.

Called by `reconciler.server.reads` with one snapshot; printed by `trueup status`. Every list has a stable order, and
every problem is said where it is seen, in the words of `reconciler.core.explain`, so that `trueup why` never says
something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kit.codec import to_json
from kit.wire import MACHINE_OVERHEAD_BYTES
from reconciler.core.act_scopes import subject_label
from reconciler.core.explain_acts import act_text, progress, remedy
from reconciler.core.explain_differences import ready_count
from reconciler.core.explain_history import name_of
from reconciler.core.explain_names import resource_subject
from reconciler.core.explain_subjects import tell
from reconciler.core.explain_text import plural
from reconciler.core.explanation import Evidence, Explanation
from reconciler.core.model import ResourceId
from reconciler.core.quotas import usage
from reconciler.ports import Doc, Head, ViewSnapshot
from reconciler.server.status_sources import NOTHING_KNOWN, Followed, source_documents

_SEEN_BY_SOURCE = "refused"  # said once, at the source


def status_document(
    snapshot: ViewSnapshot,
    head: Head,
    heartbeat_ages_s: Mapping[str, float],
    checkpoints: Mapping[str, int],
    quarantined: Sequence[Any] = (),
    followed: Followed = NOTHING_KNOWN,
    lags_s: Mapping[str, float] = MappingProxyType({}),
    commits_behind: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Any]:
    evidence = Evidence(snapshot.rows, (), heartbeat_ages_s, snapshot.log_id, snapshot.event_id)
    sources = source_documents(evidence, followed)
    apps = [_app(row, evidence) for row in _of_kind(evidence, "app")]
    nodes = [_node(row, evidence) for _, row in sorted(snapshot.rows["nodes"].items())]
    routes = [_route(row, evidence) for row in _of_kind(evidence, "route")]
    volumes = [_volume(row, evidence) for row in _of_kind(evidence, "volume")]
    loops = _troubled_loops(followed.leases)
    alarms = [_alarm(key, row) for key, row in sorted(snapshot.rows.get("identities", {}).items()) if row["alarm"]]
    parts = [*alarms, *sources, *apps, *nodes, *routes, *volumes]
    return {
        "log_id": snapshot.log_id,
        "event_id": snapshot.event_id,
        "last_event_id": head.last_event_id,
        "problems": sum(len(part["problems"]) for part in parts) + len(quarantined) + len(loops),
        "acts": [_act(key, row, evidence, commits_behind) for key, row in sorted(snapshot.rows["acts"].items())],
        "sources": sources,
        "apps": apps,
        "deployments": [_deployment(row) for row in _unfinished(evidence)],
        "nodes": nodes,
        "routes": routes,
        "volumes": volumes,
        "quotas": usage(snapshot.rows),
        "projections": [
            {
                "view": view,
                "checkpoint": checkpoint,
                "lag_events": max(0, head.last_event_id - checkpoint),
                "lag_s": round(lags_s.get(view, 0.0), 3),
            }
            for view, checkpoint in sorted(checkpoints.items())
        ],
        "leases": [to_json(each) for each in followed.leases],
        "quarantined": [to_json(each) for each in quarantined],
        "loops": loops,
        "alarms": alarms,
    }


def _act(key: str, row: Doc, evidence: Evidence, commits_behind: Mapping[str, int]) -> dict[str, Any]:
    """What a person holds back, and what that does."""
    effect, details = _effect(key, row, evidence, commits_behind)
    return {
        "key": key,
        "act": row["act"],
        "subject": subject_label(row),
        "actor": row["actor"],
        "since": row["since"],
        "until": row["until"],
        "reason": row["reason"],
        "message": act_text(row),
        "effect": effect,
        "details": details,
        "fix": remedy(row),
    }


def _effect(key: str, row: Doc, evidence: Evidence, commits_behind: Mapping[str, int]) -> tuple[str, list[str]]:
    kind, _, source_id = key.partition("/")
    if kind == "node":
        told = progress(evidence.instances_on(row["node_id"]))
        return told.text, list(told.blocking)
    if kind == "source":
        return f"{plural(commits_behind.get(source_id, 0), 'commit')} behind", []
    if kind == "hold":
        return f"Git says {row['defied_release_id']}", []
    return f"{plural(len(row['apps']), 'app')} as before", []


def _troubled_loops(leases: Sequence[Any]) -> list[dict[str, Any]]:
    """What goes wrong in loops that belong to no source, which says it itself."""
    return [
        {"loop": each.lease, "holder": each.holder, "problems": [_loop_problem(each)]}
        for each in leases
        if each.held and each.trouble and not each.lease.startswith(("git/", "notes/", "pulls/", "statuses/"))
    ]


def _loop_problem(lease: Any) -> dict[str, str]:
    return {"verdict": "failing", "code": "loop_failing", "message": f"{lease.trouble} (at {lease.holder})"}


def _alarm(key: str, row: Doc) -> dict[str, Any]:
    alarm, name = row["alarm"], key.replace("/", " ", 1)
    message = (
        f"somebody at {alarm['remote'] or 'an unknown address'} tried the join token {alarm['token_id']} of {name} "
        f"({alarm['reason_code']}, {alarm['count']} times): `trueup {name.split()[0]} revoke` it if it was not you, or "
        "give it a new token"
    )
    return {"identity_id": key, "problems": [{"verdict": "alarm", "code": alarm["reason_code"], "message": message}]}


def _tell(resource_id: str, evidence: Evidence) -> Explanation:
    return tell(resource_subject(ResourceId.parse(resource_id)), evidence)


def _of_kind(evidence: Evidence, kind: str) -> Iterable[Doc]:
    return (row for _, row in sorted(evidence.rows["resources"].items()) if row["kind"] == kind)


def _problems(told: Explanation) -> list[dict[str, str]]:
    """That an app is held back is said at the app, not at all that is its own."""
    return [
        {"verdict": each.verdict, "code": each.code, "message": each.message}
        for each in told.differences
        if each.verdict in ("failing", "offline", "waiting", "retained")
        or (each.verdict == "held_back" and told.subject.kind == "app")
    ]


def _state(told: Explanation) -> str:
    """The verdict, except that a refused newer commit is the source's matter."""
    return next((each.verdict for each in told.differences if each.verdict != _SEEN_BY_SOURCE), "converged")


def _app(row: Doc, evidence: Evidence) -> dict[str, Any]:
    explanation = _tell(row["resource_id"], evidence)
    processes = []
    for process, spec in sorted(row["spec"]["processes"].items()):
        mine = [each for each in explanation.observed if each.process == process]
        processes.append(
            {
                "process": process,
                "desired": spec.get("replicas", 1),
                "ready": ready_count(process, explanation.observed),
                "instances": len(mine),
            }
        )
    return {
        "app": name_of(row["resource_id"]),
        "resource_id": row["resource_id"],
        "state": _state(explanation),
        "commit": (row.get("origin") or {}).get("commit", ""),
        "release_id": row.get("release_id", ""),
        "deployment_id": row.get("deployment_id", ""),
        "processes": processes,
        "problems": _problems(explanation),
    }


def _unfinished(evidence: Evidence) -> list[Doc]:
    rows = evidence.rows["deployments"].values()
    return sorted((row for row in rows if row["status"] == "rolling"), key=lambda row: str(row["deployment_id"]))


def _deployment(row: Doc) -> dict[str, Any]:
    return {
        "deployment_id": row["deployment_id"],
        "app": name_of(row["app"]),
        "release_id": row["release_id"],
        "kind": row["kind"],
        "reason": row["reason"],
        "status": row["status"],
        "commit": row.get("commit", ""),
    }


def _node(row: Doc, evidence: Evidence) -> dict[str, Any]:
    here = evidence.instances_on(row["node_id"])
    age_s = evidence.heartbeat_ages_s.get(row["node_id"])
    offline = row["state"] == "offline" and row.get("duty") != "disabled"
    message = f"node {row['node_id']} is offline: {row.get('reason') or 'nothing is heard of it'}"
    return {
        "node_id": row["node_id"],
        "state": row["state"],
        "duty": row.get("duty") or "active",
        "heartbeat_age_s": None if age_s is None else round(age_s, 1),
        "instances": len(here),
        "ready": sum(each.get("status") == "ready" for each in here),
        "memory_bytes": row["memory_bytes"],
        "memory_promised_bytes": _promised_bytes(row, here),
        "accelerator": row.get("accelerator", ""),
        "agent_version": row.get("agent_version", ""),
        "problems": [{"verdict": "offline", "code": "node_offline", "message": message}] if offline else [],
    }


def _promised_bytes(row: Doc, here: Sequence[Doc]) -> int:
    """What the scheduler counts: the guest and the machine around it, of every instance that is not stopped."""
    overhead = MACHINE_OVERHEAD_BYTES.get(row.get("accelerator", ""), max(MACHINE_OVERHEAD_BYTES.values()))
    counted = (each for each in here if each.get("status") != "stopped")
    return sum(int(each["workload"]["memory_bytes"]) + overhead for each in counted)


def _route(row: Doc, evidence: Evidence) -> dict[str, Any]:
    explanation = _tell(row["resource_id"], evidence)
    spec = row["spec"]
    ready = [each for each in explanation.observed if each.status == "ready" and each.desired == "running"]
    return {
        "route": name_of(row["resource_id"]),
        "resource_id": row["resource_id"],
        "state": _state(explanation),
        "hostname": spec["hostname"],
        "listen_port": spec.get("listen_port", 443),
        "backends": [each.instance_id for each in ready],
        "edges": [{"edge_id": edge, **each} for edge, each in sorted((row.get("observed") or {}).items())],
        "problems": _problems(explanation),
    }


def _volume(row: Doc, evidence: Evidence) -> dict[str, Any]:
    explanation = _tell(row["resource_id"], evidence)
    return {
        "volume": name_of(row["resource_id"]),
        "resource_id": row["resource_id"],
        "state": _state(explanation),
        "home_node": row.get("home_node", ""),
        "status": row.get("status", ""),
        "retained": row.get("retained", ""),
        "problems": _problems(explanation),
    }
