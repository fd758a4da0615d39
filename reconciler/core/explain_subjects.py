"""What is wanted, what is there, and how the two differ, for each kind of subject. Pure; a part of
`reconciler.core.explain`.

Each function reads the rows of one moment. The differences come in the order in which a person would want them: what
is broken, what waits, what is on its way, what is only odd. The first one gives the verdict and the headline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler.core import explain_commits as commits
from reconciler.core import explain_differences as differ
from reconciler.core.explain_history import cause_text, held_text, name_of, sentence, status_text
from reconciler.core.explain_text import plural, size, spec_summary
from reconciler.core.explanation import Desired, Difference, Evidence, Explanation, Fact, Observed, Subject, Verdict
from reconciler.core.exposure import exposed

Doc = Mapping[str, Any]
GIVEN_SHOWN_MAX = 10
"""Names of secrets or nodes in a line."""


def tell(subject: Subject, evidence: Evidence) -> Explanation:
    """Everything but the history."""
    return _TELLERS[subject.kind](subject, evidence)


def _app(subject: Subject, evidence: Evidence) -> Explanation:
    row = evidence.row("resources", subject.id)
    if row is None:
        return _gone(subject, evidence)
    observed = _observed(evidence.instances_of(subject.id), evidence, row.get("release_id", ""))
    found = [*differ.of_acts(subject.id, evidence), *differ.of_instances(observed, evidence)]
    found += [*differ.of_app(row, observed, evidence), *differ.of_held_back(subject.id, evidence)]
    found += differ.of_source(row, evidence)
    return _told(subject, evidence, row, found, _ready_text(row, observed), observed)


def _ready_text(row: Doc, observed: Sequence[Observed]) -> str:
    parts = []
    for process, spec in sorted(row["spec"]["processes"].items()):
        ready = differ.ready_count(process, observed)
        parts.append(f"{process}: {ready} of {spec.get('replicas', 1)} ready")
    return ", ".join(parts)


def _route(subject: Subject, evidence: Evidence) -> Explanation:
    row = evidence.row("resources", subject.id)
    if row is None:
        return _gone(subject, evidence)
    rows = differ.backends_of(row, evidence)
    app = evidence.row("resources", differ.app_of(row)) or {}
    observed = _observed(rows, evidence, app.get("release_id", ""))
    facts = [
        Fact(f"edge {edge}", f"{each['status']} with {plural(each['backends'], 'backend')}{_detail(each)}")
        for edge, each in sorted((row.get("observed") or {}).items())
    ]
    found = [*differ.of_route(row, observed, evidence), *differ.of_held_back(subject.id, evidence)]
    found += differ.of_source(row, evidence)
    ready = sum(each.status == "ready" and each.desired == "running" for each in observed)
    return _told(subject, evidence, row, found, plural(ready, "ready backend"), observed, facts)


def _volume(subject: Subject, evidence: Evidence) -> Explanation:
    pending = [each for each in evidence.rows.get("tombstones", {}).values() if each["resource_id"] == subject.id]
    facts = [Fact("data", f"still on node {each['node_id']}, to be removed") for each in pending]
    row = evidence.row("resources", subject.id)
    if row is None:
        return _gone(subject, evidence, facts)
    users = evidence.users_of(subject.id)
    home = row.get("home_node") or "not placed yet"
    facts = [Fact("home node", home), Fact("status", row.get("status") or "not reported yet"), *facts]
    observed = _observed(users, evidence, "")
    found = [*differ.of_volume(row, evidence), *differ.of_retained(row)]
    found += [*differ.of_held_back(subject.id, evidence), *differ.of_source(row, evidence)]
    return _told(subject, evidence, row, found, f"{row.get('status') or 'declared'}, home: {home}", observed, facts)


def _secret(subject: Subject, evidence: Evidence) -> Explanation:
    row = evidence.row("resources", subject.id)
    if row is None:
        return _gone(subject, evidence)
    users = evidence.users_of(subject.id)
    wanted = row["spec"]["version_id"]
    old = [
        each["instance_id"]
        for each in users
        if each["desired"] == "running"
        and any(used["resource_id"] == subject.id and used["version_id"] != wanted for used in each["secrets"])
    ]
    found = list(differ.of_retained(row))
    if old:
        message = f"{plural(len(old), 'instance')} still run with an older version"
        found.append(Difference("rolling", "secret_rolling", message, details=tuple(sorted(old))))
    found += [*differ.of_held_back(subject.id, evidence), *differ.of_source(row, evidence)]
    facts = [Fact("used by", f"{plural(len(users), 'instance')}"), *_given(evidence, resource_id=subject.id)]
    observed = _observed(users, evidence, "")
    return _told(subject, evidence, row, found, f"version {wanted[:12]} everywhere", observed, facts)


def _environment(subject: Subject, evidence: Evidence) -> Explanation:
    row = evidence.row("resources", subject.id)
    if row is None:
        return _gone(subject, evidence)
    inside = [
        each
        for each in evidence.rows["resources"].values()
        if (each["org"], each["project"], each["env"]) == (row["org"], row["project"], row["name"])
    ]
    facts = [
        Fact(f"{kind}s", ", ".join(names))
        for kind in ("app", "route", "volume", "secret")
        if (names := sorted(each["name"] for each in inside if each["kind"] == kind))
    ]
    found = [*differ.of_acts(subject.id, evidence), *differ.of_retained(row), *differ.of_source(row, evidence)]
    return _told(subject, evidence, row, found, plural(len(inside) - 1, "resource"), (), facts)


def _instance(subject: Subject, evidence: Evidence) -> Explanation:
    row = evidence.row("instances", subject.id)
    if row is None:
        return _gone_instance(subject, evidence)
    app = evidence.row("resources", row["app"])
    observed = _observed([row], evidence, (app or {}).get("release_id", ""))
    found = [*differ.of_acts(row["app"], evidence), *differ.of_duty(row["node_id"], evidence)]
    found += [*differ.of_stopping(row), *differ.of_instances(observed, evidence)]
    workload = row["workload"]
    facts = [
        Fact("app", f"{name_of(row['app'])}/{row['process']}"),
        Fact("release", f"{row['release_id']}, deployment {row['deployment_id']}"),
        Fact("address", workload["address"]),
        Fact("boot", f"{row.get('boot_id') or 'none yet'}, epoch {row['epoch']}"),
    ]
    # The commit that asked for this instance: a rollback's release is older than the commit that returned to it.
    asked_by = evidence.row("deployments", row["deployment_id"]) or {}
    summary = (f"image {workload['image']}", f"memory {size(workload['memory_bytes'])}, cpu {workload['cpu']:g}")
    desired = _desired_of(evidence, app or {}, summary, asked_by.get("commit", ""))
    return _verdict(subject, True, desired, found, f"{status_text(row)} on {row['node_id']}", observed, facts)


def _node(subject: Subject, evidence: Evidence) -> Explanation:
    row = evidence.rows["nodes"][subject.id]
    rows = evidence.instances_on(subject.id)
    used = sum(each["workload"]["memory_bytes"] for each in rows)
    age_s = evidence.heartbeat_ages_s.get(subject.id)
    heard = "none since the controller started" if age_s is None else f"{age_s:.0f} s ago"
    facts = [
        Fact("state", node_state(row) + (f": {row['reason']}" if row.get("reason") else "")),
        Fact("last heartbeat", heard),
        Fact("memory", f"{size(used)} of {size(row['memory_bytes'])} promised to {plural(len(rows), 'instance')}"),
        Fact("guests", f"{row.get('subnet', '')}, {row.get('accelerator', '')}, {row.get('cpu', 0):g} cpu"),
        Fact("agent", row.get("agent_version", "")),
        *_given(evidence, node_id=subject.id),
    ]
    observed = _observed(rows, evidence, None)
    found = [*differ.of_duty(subject.id, evidence), *differ.of_node(row, rows, evidence)]
    found += differ.of_instances(observed, evidence)
    return _verdict(subject, True, None, found, f"{node_state(row)}, last heartbeat {heard}", observed, facts)


def _given(evidence: Evidence, *, node_id: str = "", resource_id: str = "") -> list[Fact]:
    """Of secrets: what a lost node, or whoever broke into one, knows."""
    rows = evidence.rows.get("deliveries", {})
    found = exposed(rows, evidence.rows["resources"], node_id=node_id, resource_id=resource_id)
    current = [each for each in found if each.worth == "current"]
    if not found:
        return []
    named = sorted({name_of(each.resource_id) if node_id else each.node_id for each in current})
    more = f" and {len(named) - GIVEN_SHOWN_MAX} more" if len(named) > GIVEN_SHOWN_MAX else ""
    what = f"versions of secrets, {len(current)} of them current" if node_id else "current version"
    told = ", ".join(named[:GIVEN_SHOWN_MAX]) + more or "nobody"
    if node_id:
        return [Fact("was given", f"{len(found)} {what}: {told}; trueup secret exposed --node {node_id}")]
    return [Fact("was given to", f"{told} ({what}); trueup secret exposed --secret {name_of(resource_id)}")]


def node_state(row: Doc) -> str:
    """What is heard of a node and what it may do, in one: active, draining, offline, draining and offline ..."""
    duty = row.get("duty") or "active"
    return str(row["state"]) if duty == "active" else duty if row["state"] == "active" else f"{duty} and {row['state']}"


def _revision(subject: Subject, evidence: Evidence) -> Explanation:
    row = evidence.rows["revisions"][subject.id]
    found = commits.differences_of(row)
    for held in row.get("held") or () if row["status"] not in ("refused", "superseded") else ():
        lines = tuple(commits.finding_line(each) for each in held["findings"])
        message = f"applied except {held_text(held)}"
        found.append(Difference("held_back", "held_back", message, "mend them in a new commit", lines))
    changed = [each["resource_id"] for each in row.get("changes") or ()]
    for resource_id in changed if row["status"] != "superseded" else ():
        resource = evidence.row("resources", resource_id)
        if resource is not None and resource["kind"] in ("app", "route", "volume"):
            each = tell(Subject(resource["kind"], resource_id, name_of(resource_id)), evidence)
            found += [one for one in each.differences if one.verdict not in ("refused", "held_back")]
    facts = [
        *commits.facts_of(row),
        *(
            Fact(each["verb"], f"{name_of(each['resource_id'])} ({each['path']}:{each['line']})")
            for each in row.get("changes") or ()
        ),
    ]
    base = row.get("base", "")[:12] or "nothing"
    wanted = f"{plural(len(changed), 'change')} on top of {base}"
    desired = Desired(
        (wanted if row["status"] != "refused" else f"unknown: it was refused, on top of {base}",),
        row["source_id"],
        row["commit"],
        row.get("author", ""),
        row.get("subject", ""),
    )
    seconds = row.get("seconds")
    headline = f"{row['status']}" + (f" after {seconds:.1f} s" if seconds is not None else "")
    return _verdict(subject, True, desired, found, headline, (), facts)


def _event(subject: Subject, evidence: Evidence) -> Explanation:
    event = next(each for each in evidence.events if str(each.event_id) == subject.id)
    facts, desired = tuple(commits.event_facts(event, evidence)), commits.event_desired(event, evidence)
    return Explanation(subject, True, "recorded", sentence(event), desired, facts=facts)


def _gone(subject: Subject, evidence: Evidence, facts: Sequence[Fact] = ()) -> Explanation:
    """No row: the events say when it went and who wanted that."""
    endings = [each for each in evidence.events if each.event_type == f"{subject.kind}.deleted"]
    ending = next((each for each in reversed(endings) if each.aggregate_id == subject.id), None)
    if ending is None:
        if held := differ.of_held_back(subject.id, evidence):
            return _verdict(subject, False, None, held, "not there yet", (), facts)
        message = f"{subject.label} is not declared"
        return _verdict(subject, False, None, [Difference("removed", "unknown", message)], "", (), facts)
    message = f"{subject.label} was removed by {cause_text(ending.cause)}"
    fix = f"`git revert {ending.cause.commit[:12]}` brings the manifest back" if ending.cause.commit else ""
    gone = Difference("removed", "removed", message, fix, event_id=ending.event_id, at=ending.occurred_at)
    desired = _desired_of(evidence, {"origin": _origin_of(ending.cause)}, ("nothing: its manifest is gone",))
    return _verdict(subject, False, desired, [gone], "", (), facts)


def _gone_instance(subject: Subject, evidence: Evidence) -> Explanation:
    mine = [each for each in evidence.events if each.aggregate_id == subject.id]
    wanted = [each for each in mine if each.event_type == "instance.desired_state_changed"]
    reported = [each for each in mine if each.event_type == "instance.status_changed"]
    why = wanted[-1].payload.get("reason", "") if wanted else ""
    last = f"last seen {status_text(reported[-1].payload)} on {reported[-1].payload['node_id']}" if reported else ""
    message = f"{subject.label} is gone" + (f": {why}" if why else "") + (f"; {last}" if last else "")
    ending = (wanted or reported or mine)[-1:]
    event_id, at = (ending[0].event_id, ending[0].occurred_at) if ending else (0, "")
    return _verdict(subject, False, None, [Difference("removed", "removed", message, "", (), event_id, at)], "")


def _told(
    subject: Subject,
    evidence: Evidence,
    row: Doc,
    found: Sequence[Difference],
    headline: str,
    observed: Sequence[Observed] = (),
    facts: Sequence[Fact] = (),
) -> Explanation:
    desired = _desired_of(evidence, row, spec_summary(row["kind"], row["spec"]))
    return _verdict(subject, True, desired, found, headline, observed, facts)


def _verdict(
    subject: Subject,
    exists: bool,
    desired: Desired | None,
    found: Sequence[Difference],
    headline: str,
    observed: Sequence[Observed] = (),
    facts: Sequence[Fact] = (),
) -> Explanation:
    worst_first = differ.ordered(found)
    verdict: Verdict = worst_first[0].verdict if worst_first else "converged"
    told = "; ".join(part for part in (headline, worst_first[0].message if worst_first else "") if part)
    return Explanation(subject, exists, verdict, told, desired, tuple(observed), tuple(facts), worst_first)


def _desired_of(evidence: Evidence, row: Doc, summary: tuple[str, ...], commit: str = "") -> Desired:
    origin = row.get("origin") or {}
    source_id, commit = origin.get("source_id", ""), commit or origin.get("commit", "")
    revision = evidence.row("revisions", f"{source_id}@{commit}") or {}
    return Desired(
        summary,
        source_id,
        commit,
        revision.get("author", ""),
        revision.get("subject", ""),
        origin.get("path", ""),
        origin.get("line", 0),
    )


def _origin_of(cause: Any) -> Doc:
    return {"source_id": cause.source_id, "commit": cause.commit, "path": cause.path, "line": cause.line}


def _observed(rows: Sequence[Doc], evidence: Evidence, release_id: str | None) -> tuple[Observed, ...]:
    """`release_id`: the wanted one, "" or None where any release is as good."""
    made = []
    for row in rows:
        since = row.get("status_event_id") or row.get("created_event_id") or 0
        node = evidence.row("nodes", row["node_id"]) or {}
        made.append(
            Observed(
                row["instance_id"],
                row["process"],
                row["node_id"],
                node.get("state", "unknown"),
                row["desired"],
                row.get("status") or "allocated",
                evidence.time_of(since),
                row["release_id"],
                not release_id or row["release_id"] == release_id,
                row.get("restarts") or 0,
                row.get("exit_code"),
                row.get("reason_code") or "",
                row.get("reason_detail") or "",
            )
        )
    return tuple(sorted(made, key=lambda each: (each.process, not each.current, each.instance_id)))


def _detail(row: Doc) -> str:
    return f": {row['reason_detail']}" if row.get("reason_detail") else ""


_TELLERS: Mapping[str, Callable[[Subject, Evidence], Explanation]] = {
    "app": _app,
    "route": _route,
    "volume": _volume,
    "secret": _secret,
    "environment": _environment,
    "instance": _instance,
    "node": _node,
    "revision": _revision,
    "event": _event,
}
