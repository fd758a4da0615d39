"""Two trees into one plan: what has to be declared, removed and retained to go from the applied commit to the new one.

`reconciler.tasks.git_sync` and `trueup plan` call `plan`, then `reconciler.core.guards.check` on the result. Pure: the
same commits (and the same retained resources) give the same plan, command ids included. Identity comes from the
manifest, so that a file that moves changes nothing but where its resources come from.

The order of commands is safe to follow one by one:
1. routes that go: their hostnames are free before anybody takes them, and nothing serves from what goes next;
2. what is declared, in the order environment, secret, volume, app, route; a route that gives up a hostname comes
   before the one that takes it;
3. what goes and is not a route, in the reverse order, and what is retained instead of going.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kit.canonical import digest
from reconciler.core.commands import DeclareResource, GitCommand, RemoveResource, RetainResource
from reconciler.core.cross_checks import Tree
from reconciler.core.findings import Finding, ordered
from reconciler.core.model import KINDS, STATEFUL_KINDS, Origin, Resource, ResourceId
from reconciler.core.removals import announced, renamings, retained_warning, same_meaning
from reconciler.core.revision_steps import counts_of
from reconciler.core.revisions import (
    NOTHING_PASSED_OVER,
    SIGNERS_MAX,
    Change,
    ChangeVerb,
    CommitInfo,
    Counts,
    HeldApp,
    PassedOver,
    RevisionApplied,
    RevisionSeen,
    Signature,
    Source,
    applied_command_id,
    revision_cause,
)
from reconciler.core.signing.verdicts import SignedBy
from reconciler.core.trailers import NOTHING_CONFIRMED, Confirmations

RETAINED_REASON = "removed from Git without a confirmation"


@dataclass(frozen=True, slots=True)
class Plan:
    """Immutable; whoever carries it out has no choice left. `base`: the commit that it starts from, "" for none.
    `base_size`: how many resources that commit declared. `findings`: warnings."""

    source_id: str
    commit: str
    base: str
    base_size: int
    head_size: int
    commands: tuple[GitCommand, ...]
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]

    @property
    def deletions(self) -> tuple[ResourceId, ...]:
        return tuple(command.resource_id for command in self.commands if isinstance(command, RemoveResource))

    def counts(self, held: int) -> Counts:
        """`held`: how many apps are held back."""
        return counts_of((change.verb for change in self.changes), resources=self.head_size, held=held)


@dataclass(frozen=True, slots=True)
class _Step:
    verb: ChangeVerb
    resource_id: ResourceId
    origin: Origin


def plan(
    base: Tree | None,
    head: Tree,
    *,
    source: Source,
    info: CommitInfo,
    base_commit: str = "",
    retained: Collection[ResourceId] = (),
    confirmations: Confirmations = NOTHING_CONFIRMED,
    held: Collection[str] = (),
    differing: Collection[ResourceId] | None = None,
) -> Plan:
    """`retained`: what the views show as kept although a former commit removed it. `held`: apps that are held back; the
    head does not have them. Nothing happens to them, nor to the environments that they are in. `differing`: where the
    two differ at most, for whoever knows."""
    before = base.resources if base else {}
    kept_envs = {ResourceId.parse(app).env for app in held if app}

    def may_change(step: _Step) -> bool:
        owner = step.resource_id.owner
        return step.resource_id.env not in kept_envs if owner is None else str(owner) not in held

    if differing is None and base is not None and head.base is base.mark:
        differing = head.touched
    if differing is not None:  # all others are the same in both
        looked_at = sorted({*differing, *retained})
        old = {each: before[each] for each in looked_at if each in before}
        new = {each: head.resources[each] for each in looked_at if each in head.resources}
    else:
        old, new = dict(before), dict(head.resources)
    declared = list(_declared(old, new, retained))
    gone = list(filter(may_change, _gone(old, new, head.resources, retained, confirmations)))
    steps = _in_order(declared, gone, before, head.resources)
    warnings = [
        *(retained_warning(step.resource_id, step.origin) for step in steps if step.verb == "retain"),
        *renamings(old, new, (step.resource_id for step in gone)),
        *announced(head.resources[step.resource_id] for step in declared),
    ]
    return Plan(
        source_id=source.source_id,
        commit=info.commit,
        base=base_commit,
        base_size=len(before),
        head_size=len(head.resources),
        commands=tuple(_command(step, head.resources, source, info) for step in steps),
        changes=tuple(Change(step.verb, step.resource_id, step.origin.path, step.origin.line) for step in steps),
        findings=ordered(warnings),
    )


def revision_of(
    planned: Plan,
    source: Source,
    info: CommitInfo,
    warnings: tuple[Finding, ...] = (),
    *,
    held: tuple[HeldApp, ...] = (),
    released: tuple[str, ...] = (),
    signatures: Sequence[SignedBy] = (),
    passed_over: PassedOver = NOTHING_PASSED_OVER,
    seen: RevisionSeen | None = None,
) -> RevisionApplied:
    """The act of applying the plan, which goes with its commands. `warnings`: all of the commit's findings.
    `signatures`: newest first."""
    return RevisionApplied(
        command_id=applied_command_id(source.source_id, planned.base, info.commit),
        cause=revision_cause(source, info),
        source_id=source.source_id,
        commit=info.commit,
        base=planned.base,
        author=info.author,
        subject=info.subject,
        changes=planned.changes,
        findings=warnings,
        held=held,
        released=released,
        signers=tuple(
            Signature(each.commit, each.signer, each.kind, each.fingerprint) for each in signatures[:SIGNERS_MAX]
        ),
        signers_omitted=max(0, len(signatures) - SIGNERS_MAX),
        counts=planned.counts(len(held)),
        passed_over=passed_over,
        seen=seen,
        takes_over=source.takes_over,
    )


def _declared(
    before: Mapping[ResourceId, Resource], after: Mapping[ResourceId, Resource], retained: Collection[ResourceId]
) -> Iterator[_Step]:
    for identity, resource in after.items():
        old = before.get(identity)
        if old is None:
            yield _Step("update" if identity in retained else "create", identity, resource.origin)
        elif not same_meaning(old.spec, resource.spec) or identity in retained:
            yield _Step("update", identity, resource.origin)
        elif old.marks != resource.marks:
            yield _Step("mark", identity, resource.origin)
        elif old.origin != resource.origin:
            yield _Step("move", identity, resource.origin)


def _gone(
    before: Mapping[ResourceId, Resource],
    after: Mapping[ResourceId, Resource],
    whole: Mapping[ResourceId, Resource],
    retained: Collection[ResourceId],
    confirmations: Confirmations,
) -> Iterator[_Step]:
    """`whole`: all that the head declares."""
    for identity, resource in before.items():
        if identity not in after:
            may_go = (
                identity.kind not in STATEFUL_KINDS
                or identity.short in confirmations.deletes
                or resource.marks.removal == "confirmed"
                or (identity.kind == "secret" and _owner(identity) not in whole)
            )
            yield _Step("delete" if may_go else "retain", identity, resource.origin)
    for identity in retained:
        if identity not in after and identity not in before and identity.short in confirmations.deletes:
            yield _Step("delete", identity, Origin("", 0))


def _owner(identity: ResourceId) -> ResourceId:
    """Its app."""
    return replace(identity, kind="app", name=identity.app)


def _in_order(
    declared: Iterable[_Step],
    gone: Iterable[_Step],
    before: Mapping[ResourceId, Resource],
    after: Mapping[ResourceId, Resource],
) -> list[_Step]:
    def rank(step: _Step) -> tuple[int, ResourceId]:
        return KINDS.index(step.resource_id.kind), step.resource_id

    created = sorted(declared, key=rank)
    removed = sorted(gone, key=rank, reverse=True)
    routes = [step for step in created if step.resource_id.kind == "route"]
    return [
        *(step for step in removed if step.resource_id.kind == "route"),
        *(step for step in created if step.resource_id.kind != "route"),
        *_freeing_first(routes, before, after),
        *(step for step in removed if step.resource_id.kind != "route"),
    ]


def _freeing_first(
    routes: list[_Step], before: Mapping[ResourceId, Resource], after: Mapping[ResourceId, Resource]
) -> list[_Step]:
    """Routes so that nobody takes a hostname that a later one still holds. In a ring (two routes that swap) nobody can
    be first: those stay in the order of their identities."""
    holders = {_listener(before[step.resource_id]): step for step in routes if step.resource_id in before}
    placed: dict[ResourceId, _Step] = {}
    for step in routes:
        chain: dict[ResourceId, _Step] = {}
        current: _Step | None = step
        while current is not None and current.resource_id not in placed and current.resource_id not in chain:
            chain[current.resource_id] = current
            current = holders.get(_listener(after[current.resource_id]))
        placed.update(reversed(chain.items()))
    return list(placed.values())


def _listener(route: Resource) -> tuple[str, int]:
    return route.spec["hostname"], route.spec["listen_port"]


def _command(step: _Step, after: Mapping[ResourceId, Resource], source: Source, info: CommitInfo) -> GitCommand:
    cause = revision_cause(source, info, path=step.origin.path, line=step.origin.line)
    command_id = _command_id(source, info, step)
    match step.verb:
        case "delete":
            return RemoveResource(command_id, cause, step.resource_id)
        case "retain":
            return RetainResource(command_id, cause, step.resource_id, RETAINED_REASON)
        case _:
            return DeclareResource(command_id, cause, after[step.resource_id])


def _command_id(source: Source, info: CommitInfo, step: _Step) -> str:
    return "git-" + digest([source.source_id, info.commit, str(step.resource_id), step.verb], length=32)
