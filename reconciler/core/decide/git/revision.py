"""A whole revision. Called by `reconciler.handlers`; `resources` and `rollouts` decide the parts.

The batch is appended in one transaction or not at all: what is told of the revision first (seen to applied), then what
each command makes, each with the cause (path and line) of its own command, and last what the revision takes the place
of. The first append frees whatever the revision gives up, so that two routes can swap their hostnames in one commit.
The same revision over the same state gives the same batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kit.canonical import digest
from kit.codec import to_json
from reconciler.core import quotas
from reconciler.core.act_scopes import source_scope
from reconciler.core.commands import (
    Append,
    Claim,
    Conflict,
    DeclareResource,
    GitCommand,
    RemoveResource,
    RetainResource,
)
from reconciler.core.decide.git import resources, rollouts, steps
from reconciler.core.decide.git.owned import told_as_it_is
from reconciler.core.decide.git.state import GitState
from reconciler.core.events import NewEvent, newest_version
from reconciler.core.findings import Finding, ordered
from reconciler.core.lifecycles import REVISION, allowed
from reconciler.core.model import KINDS, ResourceId
from reconciler.core.revisions import Refused, RevisionApplied, RevisionRefused


def decide_revision(
    state: GitState, revision: RevisionApplied, commands: Sequence[GitCommand]
) -> tuple[Append, ...] | Refused:
    """The batch, or why the revision is refused as a whole."""
    if illegal := _illegal(state, revision):
        return Refused(illegal)
    if refused := _refused([*_findings(state, revision, commands)]):
        return refused
    revision = told_as_it_is(state, revision, commands)
    removed = [str(command.resource_id) for command in commands if isinstance(command, RemoveResource)]
    declared = [command for command in commands if isinstance(command, DeclareResource)]
    rolled = rollouts.rolled_apps(state, declared, removed)
    parts = [(command, _events(state, revision, command, rolled)) for command in commands]
    return _batch(state, revision, [(command, events) for command, events in parts if events], commands)


def _refused(found: Sequence[tuple[ResourceId, Finding]]) -> Refused | None:
    """Every finding is about a resource; one about an environment is nobody's own."""
    if not found:
        return None
    blamed: dict[str, tuple[Finding, ...]] = {}
    for identity, finding in found:
        app = str(identity.owner)
        blamed[app] = (*blamed.get(app, ()), finding)
    all_owned = all(identity.owner for identity, _ in found)
    return Refused(ordered(finding for _, finding in found), blamed if all_owned else {})


def decide_refused(state: GitState, revision: RevisionRefused) -> Append | None:
    """None for the commit that is applied now: a late refusal of it would only confuse. None as well for one whose
    lifecycle is past it. Refused once for the same reasons, for as long as it is not seen anew."""
    if revision.commit == state.applied_commit or not allowed(REVISION, state.revision_status, "refused"):
        return None
    life = steps.life(state, revision)
    command_id = f"{revision.command_id}~{life}" if life > 1 else revision.command_id
    payload = {**_about(revision), "findings": to_json(revision.findings)}
    event = NewEvent("revision", revision.revision_id, "revision.refused", payload)
    events = (*steps.told_before(state, revision), event)
    return Append(command_id, digest(payload), revision.cause, events, expected={})


def claim_refusal(conflict: Conflict, batch: Sequence[Append]) -> Refused | None:
    """What the author of the commit is told about a claim that somebody else holds, or a quota. None for any other."""
    if conflict.kind not in ("claim", "quota"):
        return None
    append = next(append for append in batch if append.command_id == conflict.command_id)
    about = next((each.aggregate_id for each in append.events if each.aggregate_type in KINDS), "")
    code, message, fix = _said_of_claim(conflict)
    finding = Finding(append.cause.path, append.cause.line, 0, "", code, message, fix)
    return _refused([(ResourceId.parse(about), finding)]) if about else Refused((finding,))


def _said_of_claim(conflict: Conflict) -> tuple[str, str, str]:
    if conflict.kind == "quota":
        said = quotas.Exceeded.of(conflict)
        return "quota_exceeded", said.sentence, "ask for less, remove something, or have the quota raised"
    kind, _, key = conflict.subject.partition(":")
    found = {
        "hostname": ("hostname_taken", f"{key} belongs to {conflict.found}", "choose another hostname or listen port"),
        "resource": (
            "resource_owned",
            f"{key} belongs to the source {conflict.found}",
            resources.OWNED_FIX,
        ),
    }
    return found[kind]


def _events(
    state: GitState, revision: RevisionApplied, command: GitCommand, rolled: frozenset[str]
) -> tuple[NewEvent, ...]:
    if isinstance(command, RemoveResource):
        return resources.remove(state, command)
    if isinstance(command, RetainResource):
        return resources.retain(state, command)
    events = resources.declare(state, command)
    commit, base = revision.commit, revision.base
    if command.resource.id.kind == "app":
        events += rollouts.app_rollout(state, command.resource, commit, base)
    if command.resource.id.kind == "secret":
        events += rollouts.secret_rollouts(state, command.resource, rolled, commit, base)
    return events


def _batch(
    state: GitState,
    revision: RevisionApplied,
    parts: Sequence[tuple[GitCommand, tuple[NewEvent, ...]]],
    commands: Sequence[GitCommand],
) -> tuple[Append, ...]:
    appends, seen = [], set[tuple[str, str]]()
    freed: set[Claim] = set()
    for command, events in parts:
        fresh = tuple(event for event in events if _key(event) not in seen or event.event_type != "deployment.created")
        seen |= {_key(event) for event in fresh}
        before = resources.held_claims(state.resources.get(str(_resource_id(command))), _resource_id(command))
        after = _claims_after(command, before)
        freed |= _given_up(before, after)
        appends.append(_append(state, revision, command, fresh, after - before))
    over = steps.superseded(state, revision, _command_id(state, revision, "superseded"))
    told = [append for append in appends if append.events]
    return (_applied(state, revision, commands, freed), *told, *([over] if over else ()))


def _append(
    state: GitState,
    revision: RevisionApplied,
    command: GitCommand,
    events: tuple[NewEvent, ...],
    take: frozenset[Claim],
) -> Append:
    created = {_key(event): 0 for event in events if event.event_type in ("release.created", "deployment.created")}
    return Append(
        command_id=_command_id(state, revision, command.command_id),
        body_hash=digest(_body(command)),
        cause=command.cause,
        events=events,
        expected={**state.expected(_resource_id(command)), **created},
        take=tuple(sorted(take, key=_claim_order)),
    )


def _applied(state: GitState, revision: RevisionApplied, commands: Sequence[GitCommand], freed: set[Claim]) -> Append:
    changes = [change.document() for change in revision.changes]
    payload = {
        **_about(revision),
        "changes": changes,
        "findings": to_json(revision.findings),
        "held": to_json(revision.held),
        "released": list(revision.released),
        "signers": to_json(revision.signers),
        "signers_omitted": revision.signers_omitted,
    }
    event = NewEvent("revision", revision.revision_id, "revision.applied", payload, newest_version("revision.applied"))
    return Append(
        command_id=_command_id(state, revision, ""),
        body_hash=digest([payload, [_body(command) for command in commands]]),
        cause=revision.cause,
        events=(*steps.told_before(state, revision), event),
        expected={
            ("revision", revision.revision_id): state.revision["aggregate_seq"] if state.revision else 0,
            ("suspension", source_scope(revision.source_id)): int((state.source or {}).get("suspension_seq") or 0),
        },
        free=tuple(sorted(freed, key=_claim_order)),
    )


def _command_id(state: GitState, revision: RevisionApplied, part: str) -> str:
    """The same commit can be applied again, after a rewrite of the branch: that is another act, so its place in the
    revision's own history is part of the id."""
    place = state.revision["aggregate_seq"] if state.revision else 0
    base = f"{revision.command_id}~{place}" if place else revision.command_id
    return f"{base}/{digest([part], length=24)}" if part else base


def _about(revision: RevisionApplied | RevisionRefused) -> dict[str, str]:
    names = ("source_id", "commit", "base", "author", "subject")
    return {name: getattr(revision, name) for name in names}


def _body(command: GitCommand) -> Mapping[str, object]:
    document = to_json(command)
    return {"type": type(command).__name__, **{key: document[key] for key in document if key != "cause"}}


def _resource_id(command: GitCommand) -> ResourceId:
    return command.resource.id if isinstance(command, DeclareResource) else command.resource_id


def _claims_after(command: GitCommand, before: frozenset[Claim]) -> frozenset[Claim]:
    if isinstance(command, RemoveResource):
        return frozenset()
    if isinstance(command, RetainResource):
        return before
    return resources.claims_of(command.resource.id, command.resource.spec, command.cause.source_id)


def _illegal(state: GitState, revision: RevisionApplied) -> tuple[Finding, ...]:
    if allowed(REVISION, state.revision_status, "applied"):
        return ()
    message = f"the commit {revision.commit[:12]} is {state.revision_status}, and nothing leads from there to applied"
    return (Finding("", 0, 0, "", "transition_invalid", message, "push another commit"),)


def _findings(
    state: GitState, revision: RevisionApplied, commands: Sequence[GitCommand]
) -> Iterator[tuple[ResourceId, Finding]]:
    gone = frozenset(str(command.resource_id) for command in commands if isinstance(command, RemoveResource))
    moved = frozenset(
        str(command.resource.id)
        for command in commands
        if isinstance(command, DeclareResource) and command.resource.id.kind == "route"
    )
    listeners = resources.Listeners(state, gone | moved) if moved else None
    for command in commands:
        if not isinstance(command, DeclareResource):
            continue
        identity = command.resource.id
        found = resources.ownership_finding(state, command, revision.takes_over)
        if found is not None:
            yield identity, found
        elif listeners is not None and identity.kind == "route":
            taken = listeners.finding(command.resource)
            yield from [(identity, taken)] if taken else []


def _key(event: NewEvent) -> tuple[str, str]:
    return event.aggregate_type, event.aggregate_id


def _given_up(before: frozenset[Claim], after: frozenset[Claim]) -> frozenset[Claim]:
    """What is counted is not given up and taken anew when its amount changes: the difference counts."""
    replaced = {(claim.kind, claim.key) for claim in after if claim.kind in quotas.KINDS}
    return frozenset(claim for claim in before - after if (claim.kind, claim.key) not in replaced)


def _claim_order(claim: Claim) -> tuple[str, str, str]:
    return claim.kind, claim.key, claim.owner
