"""Events as sentences, oldest first. Pure; a part of `reconciler.core.explain`.

A crash loop writes the same two events again and again. Equal ones are told once, with their number and the last time,
so that the line which matters is not lost among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.core.act_scopes import scope_label
from reconciler.core.events import Cause, Event
from reconciler.core.explain_text import plural
from reconciler.core.explanation import Step
from reconciler.core.model import KINDS, ResourceId
from reconciler.core.quotas import written

STEPS_MAX = 80

Payload = Mapping[str, Any]


def steps(events: Sequence[Event]) -> tuple[tuple[Step, ...], int]:
    """The history and how many of its oldest steps are left out."""
    told: dict[tuple[Any, ...], Step] = {}
    for event in sorted(events, key=lambda each: each.event_id):
        key = _sameness(event)
        earlier = told.get(key)
        if earlier is None:
            told[key] = step(event)
        else:
            told[key] = replace(
                earlier, count=earlier.count + 1, last_event_id=event.event_id, last_at=event.occurred_at
            )
    ordered = sorted(told.values(), key=lambda each: each.event_id)
    omitted = max(0, len(ordered) - STEPS_MAX)
    # The first step says where it all comes from, so it stays whatever is left out after it.
    return tuple(ordered[:1] + ordered[omitted + 1 :] if omitted else ordered), omitted


def step(event: Event) -> Step:
    return Step(
        event.event_id,
        event.occurred_at,
        event.event_type,
        sentence(event),
        cause_text(event.cause),
        event.cause.causation_id,
        last_event_id=event.event_id,
        last_at=event.occurred_at,
    )


def sentence(event: Event) -> str:
    """An event of a version or type that is not known here is still told, only not as well."""
    key = event.event_type
    if key not in _SENTENCES and event.aggregate_type in KINDS:
        key = "KIND." + event.event_type.partition(".")[2]
    try:
        return _SENTENCES[key](event.payload)
    except (KeyError, TypeError, ValueError):
        return f"{event.event_type} of {event.aggregate_id}"


def cause_text(cause: Cause) -> str:
    """Who, following which commit, at which path and line, answering which event."""
    parts = [cause.actor_id or cause.actor_type]
    if cause.commit:
        parts.append(f"commit {cause.commit[:12]}")
    if cause.path:
        parts.append(f"{cause.path}:{cause.line}" if cause.line else cause.path)
    if cause.causation_id:
        parts.append(f"after #{cause.causation_id}")
    return ", ".join(parts)


def _sameness(event: Event) -> tuple[Any, ...]:
    if event.event_type not in ("instance.status_changed", "route.status_changed"):
        return (event.event_id,)
    payload = event.payload
    told = ("status", "epoch", "reason_code", "reason_detail", "exit_code", "edge_id", "backends")
    return (event.event_type, event.aggregate_id, *(payload.get(name) for name in told))


def name_of(resource_id: str) -> str:
    try:
        return ResourceId.parse(resource_id).short
    except (ValueError, AssertionError):
        return resource_id


def status_text(payload: Payload) -> str:
    """status (reason_code: detail, exit code) with the parts that are there."""
    reason = ": ".join(part for part in (payload.get("reason_code"), payload.get("reason_detail")) if part)
    exit_code = payload.get("exit_code")
    told = ", ".join(part for part in (reason, "" if exit_code is None else f"exit code {exit_code}") if part)
    return f"{payload.get('status', '?')} ({told})" if told else str(payload.get("status", "?"))


def _applied(payload: Payload) -> str:
    changes = plural(len(payload.get("changes", ())), "change")
    except_for = "".join(f" except {held_text(each)}," for each in payload.get("held", ())[:_HELD_SHOWN])
    again = " to what it held back" if payload["base"] == payload["commit"] and payload.get("released") else ""
    return f"commit {payload['commit'][:12]} applied{again},{except_for} {changes}: {payload.get('subject', '')}"


_HELD_SHOWN = 3


def held_text(held: Payload) -> str:
    """An app that a commit left as it was, with its first finding."""
    who = f"app {name_of(held['app'])}" if held["app"] else "what cannot be read"
    return f"{who}: {finding_text(held['findings'][0])}" if held["findings"] else who


def _marked(payload: Payload) -> str:
    said = "protected" if payload["protect"] else "not protected"
    confirmed = ", its removal is confirmed" if payload["removal"] else ""
    return f"{name_of(payload['resource_id'])} is {said} by its manifest{confirmed}"


def _refused(payload: Payload) -> str:
    findings = payload.get("findings", ())
    first = f": {finding_text(findings[0])}" if findings else ""
    return f"commit {payload['commit'][:12]} refused with {plural(len(findings), 'finding')}{first}"


def _seen(payload: Payload) -> str:
    ahead = payload["commits"]
    more = f", with {plural(ahead - 1, 'commit')} before it" if ahead > 1 else ""
    pull = f" (pull request {payload['pull_request']} as its message says)" if payload.get("pull_request") else ""
    return f"commit {payload['commit'][:12]} seen{more}: {payload.get('subject', '')}{pull}"


def counts_text(counts: Payload) -> str:
    """2 created, 1 removed; "no changes"."""
    names = ("created", "updated", "moved", "removed", "retained", "held")
    return ", ".join(f"{counts[name]} {name}" for name in names if counts.get(name)) or "no changes"


def _superseded(payload: Payload) -> str:
    was = f"was {payload['was']}" if payload["was"] else "was not looked at by itself"
    return f"commit {payload['commit'][:12]} superseded by {payload['by'][:12]}; it {was}"


def finding_text(finding: Payload) -> str:
    place = ":".join(str(finding[name]) for name in ("path", "line", "column") if finding.get(name))
    return f"{place or '(tree)'} {finding.get('message', '')}"


def _allocated(payload: Payload) -> str:
    return (
        f"instance {payload['instance_id']} of {name_of(payload['app'])}/{payload['process']} "
        f"placed on {payload['node_id']} with release {payload['release_id']}"
    )


def _until(payload: Payload) -> str:
    return f" until {payload['until']}" if payload.get("until") else ""


def _desired(payload: Payload) -> str:
    reason = f": {payload['reason']}" if payload.get("reason") else ""
    return f"instance {payload['instance_id']} shall be {payload['desired']}{reason}"


def _instance_status(payload: Payload) -> str:
    return f"instance {payload['instance_id']} on {payload['node_id']} is {status_text(payload)}"


def _deployment_status(payload: Payload) -> str:
    message = f": {payload['message']}" if payload.get("message") else ""
    return f"deployment {payload['deployment_id']} {payload['status']}{message}"


def _route_status(payload: Payload) -> str:
    detail = f": {payload['reason_detail']}" if payload.get("reason_detail") else ""
    return f"edge {payload['edge_id']} has it {payload['status']} with {plural(payload['backends'], 'backend')}{detail}"


def _changed(payload: Payload) -> str:
    """Which top-level members of the specification changed; the commit shows the rest."""
    before, after = payload.get("previous_spec", {}), payload.get("spec", {})
    changed = [each for each in _different(before, after) if not each.startswith(_UNSAID)]
    return f"{name_of(payload['resource_id'])} updated" + (f" ({', '.join(changed)})" if changed else "")


_UNSAID = "blob "
"""Where the ciphertext of a secret is in Git."""


def _different(before: Any, after: Any, path: str = "") -> list[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = sorted({*before, *after})
        return [
            each
            for name in names
            for each in _different(before.get(name), after.get(name), f"{path}.{name}".strip("."))
        ]
    if before == after:
        return []
    return [f"{path} {_short(before)} -> {_short(after)}"]


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:24]}...{text[-24:]}"


def _note(payload: Payload) -> str:
    return f" ({payload['note']})" if payload.get("note") else ""


def _machine(payload: Payload) -> str:
    return str(payload["identity_id"]).replace("/", " ", 1)


def _from(payload: Payload) -> str:
    return f" from {payload['remote']}" if payload["remote"] else ""


_SENTENCES: dict[str, Callable[[Payload], str]] = {
    "source.registered": lambda p: f"source {p['source_id']} registered: {p.get('url', '')} {p.get('branch', '')}",
    "source.removed": lambda p: (
        f"source {p['source_id']} removed with {plural(p['resources'], 'resource')}: {p['reason']}"
    ),
    "revision.applied": _applied,
    "revision.refused": _refused,
    "revision.seen": _seen,
    "revision.validated": lambda p: (
        f"commit {p['commit'][:12]} is valid and declares {plural(p['resources'], 'resource')}"
    ),
    "revision.planned": lambda p: f"commit {p['commit'][:12]} planned: {counts_text(p)}",
    "revision.failed": lambda p: f"commit {p['commit'][:12]} failed after {p['seconds']:.1f} s: {p['message']}",
    "revision.superseded": _superseded,
    "revision.converged": lambda p: f"commit {p['commit'][:12]} converged after {p['seconds']:.1f} s",
    "KIND.created": lambda p: f"{name_of(p['resource_id'])} created",
    "KIND.updated": _changed,
    "KIND.moved": lambda p: f"{name_of(p['resource_id'])} moved to another place in the tree",
    "KIND.marked": _marked,
    "KIND.retained": lambda p: f"{name_of(p['resource_id'])} kept although its manifest is gone: {p['reason']}",
    "KIND.deleted": lambda p: f"{name_of(p['resource_id'])} deleted",
    "volume.placed": lambda p: f"{name_of(p['resource_id'])} has its home on {p['node_id']}",
    "volume.status_changed": lambda p: f"{name_of(p['resource_id'])} on {p['node_id']} is {status_text(p)}",
    "route.status_changed": _route_status,
    "release.created": lambda p: f"release {p['release_id']} (number {p['number']}) of {name_of(p['app'])}",
    "deployment.created": lambda p: (
        f"{p['kind']} {p['deployment_id']} of release {p['release_id']} begun (reason: {p['reason']})"
    ),
    "deployment.status_changed": _deployment_status,
    "instance.allocated": _allocated,
    "instance.desired_state_changed": _desired,
    "instance.status_changed": _instance_status,
    "app.unschedulable": lambda p: f"process {p['process']} cannot be placed: {p['reason']}: {p['message']}",
    "app.schedulable": lambda p: f"process {p['process']} can be placed again",
    "log.restored": lambda p: f"the log was restored from a backup ({p['reason']}); formerly {p['previous_log_id']}",
    "snapshot.created": lambda p: f"snapshot {p['snapshot_id']} of {name_of(p['volume_id'])} asked for{_note(p)}",
    "snapshot.status_changed": lambda p: f"snapshot {p['snapshot_id']} on {p['node_id']} is {status_text(p)}",
    "backup.created": lambda p: f"backup {p['backup_id']} of {name_of(p['volume_id'])} asked for",
    "backup.status_changed": lambda p: f"backup {p['backup_id']} by {p['node_id']} is {status_text(p)}",
    "restore.created": lambda p: (
        f"restore {p['restore_id']} of {p['origin_kind']} {p['origin_id']} into {name_of(p['volume_id'])} asked for"
    ),
    "restore.status_changed": lambda p: f"restore {p['restore_id']} on {p['node_id']} is {status_text(p)}",
    "quota.set": lambda p: f"{p['scope']} may have {written(p['limits']) or 'as much as there is'}",
    "identity.invited": lambda p: f"{_machine(p)} may join with token {p['token_id']} until {p['expires_at']}",
    "identity.joined": lambda p: f"{_machine(p)} joined with token {p['token_id']}{_from(p)}, time {p['generation']}",
    "identity.token_misused": lambda p: (
        f"ALARM: token {p['token_id']} of {_machine(p)} was tried again{_from(p)} ({p['reason_code']})"
    ),
    "identity.revoked": lambda p: f"{_machine(p)} revoked, all its certificates are void: {p['reason']}",
    "delivery.made": lambda p: (
        f"{name_of(p['resource_id'])} ({p['version_id']}) was given to {_machine(p)}, sealed to its key, for instance "
        f"{p['instance_id']}"
    ),
    "token.created": lambda p: (
        f"token {p['token_id']} ({p['name']}) for {', '.join(p['verbs'])} in {p['org']}/{p['project']} until "
        f"{p['expires_at']}"
    ),
    "token.revoked": lambda p: f"token {p['token_id']} revoked: {p['reason']}",
    "node.enrolled": lambda p: f"node {p['node_id']} enrolled with {p['memory_bytes'] >> 20} MiB for guests",
    "node.duty_changed": lambda p: f"node {p['node_id']} shall be {p['duty']}{_until(p)}: {p['reason']}",
    "suspension.begun": lambda p: f"{scope_label(p['scope'])} suspended{_until(p)}: {p['reason']}",
    "suspension.ended": lambda p: f"{scope_label(p['scope'])} goes on as Git says: {p['reason']}",
    "app.held": lambda p: (
        f"{name_of(p['resource_id'])} held on release {p['release_id']}{_until(p)} against release "
        f"{p['defied_release_id']} of commit {p['defied_commit'][:12]}: {p['reason']}"
    ),
    "app.hold_ended": lambda p: f"{name_of(p['resource_id'])} is held no more: {p['reason']}",
    "node.state_changed": lambda p: f"node {p['node_id']} is {p['state']}: {p.get('reason', '')}",
}
