"""What is left of a commit with mistakes, the plain way: everything but the held apps is assembled again, in rounds.

The model that `test_isolation_follows.py` holds `isolate` to. It shares the question of who is to blame for a file, and
nothing of how the rest is found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from reconciler.core.cross_checks import Assembled, assemble
from reconciler.core.declared import Declared, ManifestFile
from reconciler.core.isolation.blame import Blame, blame_files
from reconciler.core.isolation.situation import Situation
from reconciler.core.listeners import Fault
from reconciler.core.model import Resource, ResourceId

LIVE = "(live)"


def isolated_anew(head: Assembled, situation: Situation) -> tuple[dict[ResourceId, Resource], set[str]] | None:
    """What is left, and the apps that are held back. None: the commit is refused as a whole."""
    blame = blame_files(head, head.files, situation)
    for fault in head.faults:
        if len(fault.about) == 1:
            blame.on(fault.about, [fault.finding])
    for app, findings in situation.blamed.items():
        blame.hold(app, findings)
    while not blame.common:
        left = assemble(_left(head, situation, blame))
        before = len(blame.held)
        for fault in left.faults:
            blame.on(_guilty(fault, situation, blame), [fault.finding])
        if len(blame.held) == before:
            declared = {each.resource.id for file in left.files.values() if file.path != LIVE for each in file.declared}
            return {each: left.tree.resources[each] for each in left.tree.resources if each in declared}, set(
                blame.held
            )
    return None


def _left(head: Assembled, situation: Situation, blame: Blame) -> Iterator[ManifestFile]:
    """The good rest of the files, and one that stands for what the held apps have live."""
    declared = set[ResourceId]()
    for file in head.files.values():
        kept = tuple(each for each in file.declared if not _is_held(each.resource.id, blame))
        declared |= {each.resource.id for each in kept}
        yield dataclasses.replace(file, declared=kept, broken=(), opaque=False, findings=())
    envs = {ResourceId.parse(app).env for app in blame.held if app}
    live = (
        Declared(resource, port=resource.spec["port"] if resource.id.kind == "route" else 0)
        for identity, resource in situation.live.tree.resources.items()
        if _is_held(identity, blame)
        or (identity.kind == "environment" and identity.env in envs and identity not in declared)
    )
    yield ManifestFile(LIVE, tuple(live))


def _guilty(fault: Fault, situation: Situation, blame: Blame) -> list[ResourceId]:
    free = [each for each in fault.about if not _is_held(each, blame)]
    if len(free) < len(fault.about):
        return free
    live = situation.live.tree.resources
    has_it = [
        each for each in free if each in live and all(live[each].spec[name] == value for name, value in fault.claim)
    ]
    return [each for each in free if each not in has_it] or free


def _is_held(identity: ResourceId, blame: Blame) -> bool:
    return identity.owner is not None and str(identity.owner) in blame.held
