"""The apps that are held back, and what is left of a commit: good as a whole, with the held apps as they are live.

An app refers to nothing outside of itself and its environment, so that what was found wrong with the whole commit says
all about what is left of it, but for two things: a hostname that a held app keeps, and what may only be declared in a
file that cannot be read. Who is in the way of those is held back too, until nothing is wrong any more. More apps only
ever come in, so this ends. The work follows what is wrong, not the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reconciler.core.cross_checks import RESOURCES_MAX, Assembled, Index, Tree, app_of, too_many_resources
from reconciler.core.declared import Declared
from reconciler.core.findings import Finding, errors, ordered
from reconciler.core.isolation.blame import Blame, blame_files
from reconciler.core.isolation.situation import Situation
from reconciler.core.listeners import Fault, clashes, is_raw, listener_of
from reconciler.core.model import Resource, ResourceId
from reconciler.core.revisions import HELD_FINDINGS_MAX, HeldApp

HELD_APPS_MAX = 200
"""A commit that breaks more than this is not a good commit with a few bad apps."""
ROUNDS_MAX = 25


@dataclass(frozen=True, slots=True)
class Isolated:
    """`tree`: what the commit declares, less `without`: what it declares of the apps that are held back.
    `held`: in the order of their names."""

    tree: Tree
    held: tuple[HeldApp, ...]
    without: frozenset[ResourceId] = frozenset()


def isolate(head: Assembled, situation: Situation) -> Isolated | tuple[Finding, ...]:
    """The findings: why the commit is refused as a whole."""
    if head.index is None:
        return head.findings
    blame = blame_files(head, head.index.noted, situation)
    for fault in head.faults:
        if len(fault.about) == 1:
            blame.on(fault.about, [fault.finding])
    for app, findings in situation.blamed.items():
        blame.hold(app, findings)
    for _ in range(ROUNDS_MAX):
        if blame.common or len(blame.held) > HELD_APPS_MAX:
            break
        kept = _kept(situation, blame)
        if not _blame_faults(_faults_left(head, head.index, kept, situation, blame), situation, blame):
            return _isolated(head, head.index, len(kept), blame)
    return _refusal(blame)


def _isolated(head: Assembled, index: Index, kept: int, blame: Blame) -> Isolated | tuple[Finding, ...]:
    """`kept`: how many resources the held apps keep."""
    _tell_rest(head, index, blame)
    without = _without(head, index, blame)
    count = len(head.tree.resources) - len(without) + kept
    if count > RESOURCES_MAX:
        blame.common.append(too_many_resources(count))
    return _refusal(blame) if blame.common else Isolated(_tree_of(head, without), _held(blame), without)


def _kept(situation: Situation, blame: Blame) -> list[Resource]:
    """What the held apps have live."""
    apps = [app_of(ResourceId.parse(app)) for app in blame.held if app]
    live = situation.live
    return [live.tree.resources[each] for app in apps for each in live.by_app.get(app, ())]


def _faults_left(
    head: Assembled, index: Index, kept: Sequence[Resource], situation: Situation, blame: Blame
) -> Iterator[Fault]:
    """Those of the rest of the commit beside what the held apps keep. An environment stays with its held apps."""
    stay = {ResourceId.parse(app).env for app in blame.held if app}
    for fault in (*head.faults, *head.unsure):
        lasts = fault.missing and fault.missing.kind == "environment" and fault.missing.env in stay
        if not fault.claim and not (lasts and fault.missing in situation.live.tree.resources):
            yield fault
    yield from clashes(_contended(head, index, [_as_declared(each) for each in kept if each.id.kind == "route"], blame))


def _contended(head: Assembled, index: Index, kept: Sequence[Declared], blame: Blame) -> Iterator[Declared]:
    """The routes of the rest that may be in each other's way or in that of a route that is kept; and these."""
    claims = [dict(fault.claim) for fault in head.faults if fault.claim]
    wanted = {listener_of(each) for each in kept}
    wanted |= {(claim["listen_port"], claim["hostname"]) for claim in claims if "hostname" in claim}
    ports = {each["listen_port"] for each in claims} & index.raw_ports
    ports |= {port for each in kept if (port := listener_of(each)[0]) in index.raw_ports or is_raw(each)}
    if ports:
        wanted |= {listener for listener in index.listeners if listener[0] in ports}
    for listener in wanted:
        yield from (each for each in index.listeners.get(listener, ()) if not _is_held(each.resource.id, blame))
    yield from kept


def _as_declared(resource: Resource) -> Declared:
    return Declared(resource, port=resource.spec["port"])


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
    live = situation.live.tree.resources.get(identity)
    return live is not None and all(live.spec[name] == value for name, value in fault.claim)


def _is_held(identity: ResourceId, blame: Blame) -> bool:
    return identity.owner is not None and str(identity.owner) in blame.held


def _tell_rest(head: Assembled, index: Index, blame: Blame) -> None:
    """Every error of the commit is told at some app, or the commit is refused for it."""
    told = {finding for findings in blame.held.values() for finding in findings}
    for fault in head.faults:
        if fault.finding not in told:
            held = [each for each in fault.about if _is_held(each, blame)]
            blame.on(held, [fault.finding])
            told.add(fault.finding)
    every = (*(each for path in index.noted for each in head.files[path].findings), *head.more)
    blame.common.extend(finding for finding in errors(every) if finding not in told)


def _without(head: Assembled, index: Index, blame: Blame) -> frozenset[ResourceId]:
    apps = {app_of(ResourceId.parse(app)) for app in blame.held if app}
    files = {path for app in apps for path in index.paths.get(app, ())}
    declared = (each.resource.id for path in files for each in head.files[path].declared)
    return frozenset(each for each in declared if app_of(each) in apps)


def _tree_of(head: Assembled, without: frozenset[ResourceId]) -> Tree:
    """It differs in them, besides, from what the head's tree differs from."""
    resources = dict(head.tree.resources)
    for each in without:
        del resources[each]
    return Tree(resources, base=head.tree.base, touched=head.tree.touched | without)


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
