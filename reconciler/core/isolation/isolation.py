"""The apps that are held back, and what is left of a commit: good as a whole, with the held apps as they are live.

What is left is joined and checked again, because holding one app back can stand in another's way: a hostname that it
keeps, a volume that only an unreadable file may declare. That app is then held back too, until nothing is wrong any
more. More apps only ever come in, so this ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reconciler.core.cross_checks import Assembled, Fault, Tree, assemble
from reconciler.core.declared import Declared, ManifestFile
from reconciler.core.findings import Finding, errors, ordered
from reconciler.core.isolation.blame import Blame, blame_files
from reconciler.core.isolation.situation import Situation
from reconciler.core.model import Resource, ResourceId
from reconciler.core.revisions import HELD_FINDINGS_MAX, HeldApp

HELD_APPS_MAX = 200
"""A commit that breaks more than this is not a good commit with a few bad apps."""
ROUNDS_MAX = 25
_LIVE = "(live)"


@dataclass(frozen=True, slots=True)
class Isolated:
    """`tree`: what the commit declares, less the apps that are held back. `held`: in the order of their names."""

    tree: Tree
    held: tuple[HeldApp, ...]


def isolate(head: Assembled, situation: Situation) -> Isolated | tuple[Finding, ...]:
    """The findings: why the commit is refused as a whole."""
    blame = blame_files(head, situation)
    for fault in head.faults:
        if len(fault.about) == 1:
            blame.on(fault.about, [fault.finding])
    for app, findings in situation.blamed.items():
        blame.hold(app, findings)
    for _ in range(ROUNDS_MAX):
        if blame.common or len(blame.held) > HELD_APPS_MAX:
            break
        left = assemble(_left(head, situation, blame), strict=True)
        if not _blame_faults(left.faults, situation, blame):
            _tell_rest(head, blame)
            if blame.common:
                break
            return Isolated(_tree_of(left), _held(blame))
    return _refusal(blame)


def _left(head: Assembled, situation: Situation, blame: Blame) -> Iterator[ManifestFile]:
    """The good rest of the files, and one that stands for what the held apps have live."""
    declared = set[ResourceId]()
    for file in head.files:
        kept = tuple(each for each in file.declared if not _is_held(each.resource.id, blame))
        declared |= {each.resource.id for each in kept}
        yield dataclasses.replace(file, declared=kept, broken=(), opaque=False, findings=())
    envs = {ResourceId.parse(app).env for app in blame.held if app}
    live = (
        _as_declared(resource)
        for identity, resource in sorted(situation.live.items())
        if _is_held(identity, blame)
        or (identity.kind == "environment" and identity.env in envs and identity not in declared)
    )
    yield ManifestFile(_LIVE, tuple(live))


def _as_declared(resource: Resource) -> Declared:
    return Declared(resource, port=resource.spec["port"] if resource.id.kind == "route" else 0)


def _blame_faults(faults: Iterable[Fault], situation: Situation, blame: Blame) -> bool:
    """Whether anybody new is held back."""
    before = len(blame.held)
    for fault in faults:
        blame.on(_guilty(fault, situation, blame), [fault.finding])
    return len(blame.held) > before or bool(blame.common)


def _guilty(fault: Fault, situation: Situation, blame: Blame) -> list[ResourceId]:
    """Of two that claim the same, whoever has it now keeps it; if nobody has, neither gets it."""
    free = [each for each in fault.about if not _is_held(each, blame)]
    if len(free) < len(fault.about):
        return free
    return [each for each in free if not _has_now(each, fault, situation)] or free


def _has_now(identity: ResourceId, fault: Fault, situation: Situation) -> bool:
    live = situation.live.get(identity)
    return live is not None and all(live.spec[name] == value for name, value in fault.claim)


def _is_held(identity: ResourceId, blame: Blame) -> bool:
    return identity.owner is not None and str(identity.owner) in blame.held


def _tell_rest(head: Assembled, blame: Blame) -> None:
    """Every error of the commit is told at some app, or the commit is refused for it."""
    told = {finding for findings in blame.held.values() for finding in findings}
    for fault in head.faults:
        if fault.finding not in told:
            held = [each for each in fault.about if _is_held(each, blame)]
            blame.on(held, [fault.finding])
            told.add(fault.finding)
    every = (*(each for file in head.files for each in file.findings), *head.more)
    blame.common.extend(finding for finding in errors(every) if finding not in told)


def _tree_of(left: Assembled) -> Tree:
    declared = {each.resource.id for file in left.files if file.path != _LIVE for each in file.declared}
    return Tree({identity: resource for identity, resource in left.tree.resources.items() if identity in declared})


def _held(blame: Blame) -> tuple[HeldApp, ...]:
    return tuple(
        HeldApp(app, ordered(findings, limit=HELD_FINDINGS_MAX), tuple(sorted(blame.files.get(app, ()))))
        for app, findings in sorted(blame.held.items())
    )


def _refusal(blame: Blame) -> tuple[Finding, ...]:
    found = (*blame.common, *(finding for findings in blame.held.values() for finding in findings))
    if blame.common:
        return found
    message = f"errors of {len(blame.held)} apps; at most {HELD_APPS_MAX} are held back while the rest is applied"
    return (
        *found,
        Finding("", 0, 0, "", "too_many_held", message, "mend the manifests, or push them in smaller parts"),
    )
