"""How what is there differs from what is wanted, and what to do about it. Pure; a part of `reconciler.core.explain`.

Every function returns the differences of one kind; none means that there is nothing to say. `ordered` brings them into
the order in which they matter: what people hold back first, since it explains the rest, then what is broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.core.act_scopes import app_scope, env_scope, hold_key, node_key, source_scope
from reconciler.core.explain_acts import act_text, progress, remedy
from reconciler.core.explain_history import finding_text, held_text, name_of
from reconciler.core.explain_remedies import REMEDY_OF_REASON
from reconciler.core.explain_text import plural
from reconciler.core.explanation import Difference, Evidence, Observed, Verdict
from reconciler.core.model import ResourceId
from reconciler.core.outside import waits_outside
from reconciler.core.trailers import CONFIRM_DELETE

Doc = Mapping[str, Any]

_RANK: Sequence[Verdict] = (
    "superseded", "held", "failing", "offline", "waiting", "held_back", "removed", "rolling", "stopping", "retained",
    "refused", "converged", "recorded",
)  # fmt: skip
_FINDINGS_SHOWN = 5


def ordered(found: Iterable[Difference]) -> tuple[Difference, ...]:
    """The worst first; equal ones stay in the order in which they were found."""
    return tuple(sorted(found, key=lambda each: _RANK.index(each.verdict)))


def ready_count(process: str, observed: Iterable[Observed]) -> int:
    """What satisfies the desired count: current, wanted, ready, and on a node that is heard."""
    return sum(_counts(each) for each in observed if each.process == process)


def _counts(instance: Observed) -> bool:
    wanted = instance.current and instance.desired == "running"
    return wanted and instance.status == "ready" and instance.node_state != "offline"


def of_instances(observed: Iterable[Observed], evidence: Evidence) -> list[Difference]:
    """Each instance that should run and does not, with its own reason."""
    found = []
    for each in observed:
        if each.desired != "running":
            continue
        row = evidence.row("instances", each.instance_id) or {}
        where = f"instance {each.instance_id} on {each.node_id}"
        event_id = row.get("status_event_id") or 0
        if each.node_state == "offline":
            message = f"{where} was last {each.status}; its node is offline"
            fix = f"`trueup why {each.node_id}`"
            found.append(Difference("offline", "node_offline", message, fix, (), event_id, each.since))
        elif each.status in ("failed", "unready"):
            message = f"{where} is {each.status}{_reason(each)}"
            fix = REMEDY_OF_REASON.get(each.reason_code, "")
            details = (each.reason_detail,) if each.reason_detail else ()
            found.append(Difference("failing", each.reason_code, message, fix, details, event_id, each.since))
    return found


def _reason(instance: Observed) -> str:
    parts = [instance.reason_code]
    if instance.exit_code is not None:
        parts.append(f"exit code {instance.exit_code}")
    if instance.restarts:
        parts.append(plural(instance.restarts, "restart"))
    told = ", ".join(part for part in parts if part)
    return f" ({told})" if told else ""


def of_app(row: Doc, observed: Sequence[Observed], evidence: Evidence) -> list[Difference]:
    return [*_unplaced(row), *_deployment(row, observed, evidence), *_missing(row, observed), *_leftovers(observed)]


def _unplaced(row: Doc) -> Iterable[Difference]:
    for process, why in sorted((row.get("unschedulable") or {}).items()):
        message = f"process {process} cannot be placed: {why['reason']}: {why['message']}"
        yield Difference("waiting", why["reason"], message, REMEDY_OF_REASON.get(why["reason"], ""))


def _deployment(row: Doc, observed: Sequence[Observed], evidence: Evidence) -> Iterable[Difference]:
    deployment = evidence.row("deployments", row.get("deployment_id", ""))
    if deployment is None or deployment["status"] not in ("rolling", "failed"):
        return
    event_id = int(deployment.get("updated_event_id") or 0)
    at = evidence.time_of(event_id)
    told = f"{deployment['kind']} {deployment['deployment_id']} of release {deployment['release_id']}"
    if deployment["status"] == "failed":
        message = f"{told} failed: {deployment.get('message') or 'no message'}"
        fix = "mend the cause in a new commit, or revert the commit; the former instances were not touched"
        yield Difference("failing", "deployment_failed", message, fix, (), event_id, at)
        return
    former = sum(not each.current and each.desired == "running" for each in observed)
    why = "a secret has a new version" if deployment.get("reason") == "secret" else "the commit changed it"
    ready = ", ".join(
        f"{process}: {ready_count(process, observed)} of {spec.get('replicas', 1)} ready"
        for process, spec in sorted(row["spec"]["processes"].items())
    )
    message = f"{told} is rolling because {why} ({ready}; {plural(former, 'former instance')} still wanted)"
    yield Difference("rolling", "rolling", message, "", (), event_id, at)


def _missing(row: Doc, observed: Sequence[Observed]) -> Iterable[Difference]:
    """Fewer are ready than wanted and nothing above says why."""
    for process, spec in sorted(row["spec"]["processes"].items()):
        wanted = spec.get("replicas", 1)
        mine = [each for each in observed if each.process == process and each.current and each.desired == "running"]
        coming = [each for each in mine if each.status in ("allocated", "preparing", "booting")]
        for each in coming:
            message = f"instance {each.instance_id} on {each.node_id} is {each.status}"
            yield Difference("rolling", f"instance_{each.status}", message, "", (), 0, each.since)
        if len(mine) < wanted and process not in (row.get("unschedulable") or {}):
            message = f"process {process} has {len(mine)} of {plural(wanted, 'instance')} placed"
            yield Difference("rolling", "not_placed_yet", message, "the scheduler places them; look again in a moment")


def _leftovers(observed: Iterable[Observed]) -> Iterable[Difference]:
    for each in observed:
        if each.desired != "running":
            message = f"instance {each.instance_id} on {each.node_id} is on its way out ({each.desired}, {each.status})"
            yield Difference("stopping", "instance_leaving", message, "", (), 0, each.since)


def of_stopping(row: Doc) -> list[Difference]:
    """For the instance itself: it is not wanted any more, and why."""
    if row["desired"] == "running":
        return []
    reason = f": {row['reason']}" if row.get("reason") else ""
    return [Difference("stopping", "instance_leaving", f"it shall be {row['desired']}{reason}")]


def of_source(row: Doc, evidence: Evidence) -> list[Difference]:
    """The newest commit of the source was refused, so this is as an older one says."""
    origin = row.get("origin") or {}
    source = evidence.row("sources", origin.get("source_id", "")) or {}
    refused = source.get("refused_commit") or ""
    revision = evidence.row("revisions", f"{origin.get('source_id')}@{refused}") if refused else None
    if revision is None:
        return []
    findings = revision.get("findings") or ()
    mine = [each for each in findings if each.get("path") == origin.get("path")]
    would = f"it touches {origin.get('path')}" if mine else "whatever it says about this is not applied"
    message = (
        f"the newest commit {refused[:12]} ({revision.get('subject', '')}, {revision.get('author', '')}) was refused "
        f"with {plural(len(findings), 'finding')}; {would}"
    )
    shown = sorted(findings, key=lambda each: each not in mine)[:_FINDINGS_SHOWN]
    details = [finding_text(each) + (f" - {each['fix']}" if each.get("fix") else "") for each in shown]
    if len(findings) > len(shown):
        details.append(f"and {len(findings) - len(shown)} more: `trueup why {refused[:12]}`")
    event_id = int(source.get("refused_event_id") or 0)
    fix = "mend the findings in a new commit"
    return [Difference("refused", "revision_refused", message, fix, tuple(details), event_id, revision.get("at", ""))]


def of_held_back(resource_id: str, evidence: Evidence) -> list[Difference]:
    """The applied commit left its app as it was. Also for an app that is not there at all for that reason."""
    owner = ResourceId.parse(resource_id).owner
    for source in evidence.rows.get("sources", {}).values():
        if str(owner) in (source.get("held_back") or {}):
            revision = evidence.row("revisions", f"{source['source_id']}@{source['applied_commit']}") or {}
            held = next((each for each in revision.get("held") or () if each["app"] == str(owner)), None)
            return [_held_back(source, revision, held)] if held else []
    return []


def _held_back(source: Doc, revision: Doc, held: Doc) -> Difference:
    commit = source["applied_commit"][:12]
    message = f"commit {commit} was applied except {held_text(held)}; all of the app stays as it was"
    details = [finding_text(each) + (f" - {each['fix']}" if each.get("fix") else "") for each in held["findings"]]
    fix = "mend the findings in a new commit, or take the change back"
    if waits_outside([held]):
        fix = f"it is applied by itself once nothing stands against it any more; or {fix}"
    event_id = int(revision.get("updated_event_id") or 0)
    return Difference("held_back", "held_back", message, fix, tuple(details), event_id, revision.get("at", ""))


def of_retained(row: Doc) -> list[Difference]:
    """Data and keys do not go because a file went: somebody has to say so in a commit."""
    reason = row.get("retained")
    if not reason:
        return []
    trailer = f"{CONFIRM_DELETE}: {name_of(row['resource_id'])}"
    message = f"its manifest is gone, but it is kept: {reason}"
    fix = f"bring the manifest back; or remove it for good by a commit whose message ends with the line: {trailer}"
    return [Difference("retained", "retained", message, fix)]


def of_volume(row: Doc, evidence: Evidence) -> list[Difference]:
    home = row.get("home_node") or ""
    if not home:
        message = "it has no home node yet: it gets one when the first instance that uses it is placed"
        return [Difference("rolling", "not_placed_yet", message)]
    found = []
    if (evidence.row("nodes", home) or {}).get("state") == "offline":
        message = f"its home node {home} is offline; whatever uses it waits for that node"
        found.append(Difference("offline", "volume_home_node_offline", message, f"`trueup why {home}`"))
    if row.get("status") == "failed":
        detail = (row.get("observed") or {}).get("reason_detail") or "no detail"
        found.append(Difference("failing", "volume_failed", f"node {home} reports that it failed: {detail}"))
    return found


def app_of(row: Doc) -> str:
    """The resource_id of the app that a route belongs to."""
    return "/".join((row["org"], row["project"], row["env"], row["app"], "app", row["app"]))


def backends_of(row: Doc, evidence: Evidence) -> list[Doc]:
    return [each for each in evidence.instances_of(app_of(row)) if each["process"] == row["spec"]["process"]]


def of_route(row: Doc, observed: Sequence[Observed], evidence: Evidence) -> list[Difference]:
    app, spec = app_of(row), row["spec"]
    owner = evidence.row("resources", app)
    if owner is None:
        message = f"its app {name_of(app)} is not declared, so nothing can serve it"
        return [Difference("failing", "app_missing", message, "declare the app, or remove the route")]
    found = []
    ready = [each for each in observed if each.status == "ready" and each.desired == "running"]
    if not ready:
        message = f"no instance of process {spec['process']} is ready, so connections are refused"
        verdict: Verdict = "rolling" if owner.get("status") == "rolling" else "failing"
        found.append(Difference(verdict, "no_backends", message, f"`trueup why {name_of(app)}`"))
    edges = row.get("observed") or {}
    if not edges:
        found.append(Difference("rolling", "no_edge", "no edge has reported this route yet", "is an edge running?"))
    for edge, each in sorted(edges.items()):
        if each["status"] == "failed":
            message = f"edge {edge} could not apply it: {each.get('reason_detail') or 'no detail'}"
            found.append(Difference("failing", "edge_failed", message))
        elif each["backends"] != len(ready):
            message = f"edge {edge} serves {plural(each['backends'], 'backend')}, {len(ready)} are ready"
            found.append(Difference("rolling", "edge_behind", message))
    return found


def of_acts(resource_id: str, evidence: Evidence) -> list[Difference]:
    """What operators hold back of this resource, of its app, its environment or its source."""
    acts, identity = evidence.rows.get("acts", {}), ResourceId.parse(resource_id)
    row = evidence.row("resources", resource_id) or {}
    app = str(replace(identity, kind="app", name=identity.app))
    source = source_scope((row.get("origin") or {}).get("source_id", ""))
    keys = (hold_key(app), app_scope(identity), env_scope(identity), source)
    return [_of_act(acts[key]) for key in keys if key in acts]


def of_duty(node_id: str, evidence: Evidence) -> list[Difference]:
    """A node that an operator took off duty, and what does not leave it."""
    act = evidence.row("acts", node_key(node_id))
    if act is None:
        return []
    told = progress(evidence.instances_on(node_id))
    return [replace(_of_act(act), message=f"{act_text(act)}; {told.text}", details=told.blocking)]


def _of_act(act: Doc) -> Difference:
    return Difference(
        "held", _CODE_OF_ACT[act["act"]], act_text(act), remedy(act), (), int(act["updated_event_id"]), act["since"]
    )


_CODE_OF_ACT = {"drain": "node_draining", "disable": "node_disabled", "suspend": "suspended", "hold": "held"}


def of_node(row: Doc, instances: Sequence[Doc], evidence: Evidence) -> list[Difference]:
    """That a node is silent which an operator has disabled is no trouble."""
    if row["state"] != "offline" or row.get("duty") == "disabled":
        return []
    event_id = int(row.get("updated_event_id") or 0)
    message = f"nothing is heard of it ({row.get('reason') or 'no reason given'})"
    fix = "look at the machine, its network and the agent's log; what runs there goes on running"
    details = tuple(
        f"{each['instance_id']} of {name_of(each['app'])}/{each['process']}, last {each.get('status') or 'allocated'}"
        for each in sorted(instances, key=lambda each: each["instance_id"])
    )
    return [Difference("offline", "node_offline", message, fix, details, event_id, evidence.time_of(event_id))]
