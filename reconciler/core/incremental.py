"""A tree joined onto one that was joined before: the work follows what changed, the outcome is that of `assemble`.

`reconciler.git.tree_reader` calls `join` for each commit. Every reference stays within one app and its environment, so
only the apps with a changed file are checked again; what is unique among all (identities, listeners) is held in indexes
that go from tree to tree. As soon as anything is not as simple as that (a finding, a file that cannot be read, an
environment that comes or goes, a raw listener), everything is joined anew: a wrong commit may take longer, and is told
exactly what it would be told otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from reconciler.core.cross_checks import RESOURCES_MAX, Assembled, Tree, assemble
from reconciler.core.declared import Declared, ManifestFile
from reconciler.core.findings import Finding, errors, ordered
from reconciler.core.model import NO_PART, Resource, ResourceId

_App = tuple[str, str]
"""Environment and app; app "-" is the environment itself."""
_Listener = tuple[int, str]
"""Listen port and hostname."""


@dataclass(frozen=True, slots=True)
class Joined:
    """`paths`: the files that declare something of an app. `listeners`: whose they are. `raw_ports`: with a listener
    that shares them with nobody. The indexes are empty when `assembled` has errors: nothing is joined onto that."""

    assembled: Assembled
    files: Mapping[str, ManifestFile]
    paths: Mapping[_App, frozenset[str]]
    listeners: Mapping[_Listener, ResourceId]
    raw_ports: frozenset[int]


def join(
    files: Mapping[str, ManifestFile], more: tuple[Finding, ...], before: Joined | None, changed: Collection[str]
) -> Joined:
    """`changed`: the paths at which `files` may differ from those of `before`. `more`: as for `assemble`."""
    found = _onto(before, files, more, changed) if before and not errors(before.assembled.findings) else None
    return found or _anew(files, more)


def _anew(files: Mapping[str, ManifestFile], more: tuple[Finding, ...]) -> Joined:
    assembled = assemble(files.values(), more)
    if errors(assembled.findings):
        return Joined(assembled, files, {}, {}, frozenset())
    paths: dict[_App, set[str]] = {}
    for file in files.values():
        for each in file.declared:
            paths.setdefault(_app_of(each.resource.id), set()).add(file.path)
    routes = [each for each in assembled.tree.resources.values() if each.id.kind == "route"]
    raw = frozenset(each.spec["listen_port"] for each in routes if each.spec["protocol"] == "tcp_raw")
    by_app = {app: frozenset(found) for app, found in paths.items()}
    return Joined(assembled, files, by_app, {_listener(each): each.id for each in routes}, raw)


def _onto(
    before: Joined, files: Mapping[str, ManifestFile], more: tuple[Finding, ...], changed: Collection[str]
) -> Joined | None:
    """None when it is not as simple as that."""
    old = [each for path in changed if path in before.files for each in before.files[path].declared]
    new_files = [files[path] for path in changed if path in files]
    new = [each for file in new_files for each in file.declared]
    if any(file.opaque or file.broken or errors(file.findings) for file in new_files) or errors(more):
        return None
    if not _same_environments(old, new) or not _declared_once(before, old, new):
        return None
    apps = {_app_of(each.resource.id) for each in (*old, *new)}
    paths = _paths_after(before, files, changed)
    part = assemble(_parts(files, paths, apps))
    if part.findings:
        return None
    resources = _resources_after(before.assembled.tree.resources, old, part.tree.resources)
    listeners = _listeners_after(before, apps, old, part.tree.resources)
    if resources is None or listeners is None:
        return None
    gone = (each.resource.id for each in old)
    touched = frozenset((*gone, *part.tree.resources))
    tree = Tree(resources, base=before.assembled.tree.mark, touched=touched)
    in_order = tuple(files[path] for path in sorted(files))
    findings = ordered([*(each for file in in_order for each in file.findings), *more])
    return Joined(Assembled(tree, findings, in_order, more), files, paths, listeners, before.raw_ports)


def _same_environments(old: Iterable[Declared], new: Iterable[Declared]) -> bool:
    return _environments(old) == _environments(new)


def _environments(declared: Iterable[Declared]) -> set[ResourceId]:
    return {each.resource.id for each in declared if each.resource.id.kind == "environment"}


def _declared_once(before: Joined, old: Collection[Declared], new: Collection[Declared]) -> bool:
    mine = {each.resource.id for each in old}
    ids = {each.resource.id for each in new}
    return len(ids) == len(new) and not any(each in before.assembled.tree.resources for each in ids - mine)


def _paths_after(
    before: Joined, files: Mapping[str, ManifestFile], changed: Collection[str]
) -> Mapping[_App, frozenset[str]]:
    paths = dict(before.paths)
    for path in changed:
        for each in before.files[path].declared if path in before.files else ():
            app = _app_of(each.resource.id)
            paths[app] = paths.get(app, frozenset()) - {path}
        for each in files[path].declared if path in files else ():
            app = _app_of(each.resource.id)
            paths[app] = paths.get(app, frozenset()) | {path}
    return paths


def _parts(
    files: Mapping[str, ManifestFile], paths: Mapping[_App, frozenset[str]], apps: Collection[_App]
) -> list[ManifestFile]:
    """What the apps declare, wherever, and their environments."""
    wanted = {*apps, *((env, NO_PART) for env, _ in apps)}
    return [
        dataclasses.replace(
            files[path],
            declared=tuple(each for each in files[path].declared if _app_of(each.resource.id) in wanted),
            findings=(),
        )
        for path in sorted({path for app in wanted for path in paths.get(app, ())})
    ]


def _resources_after(
    before: Mapping[ResourceId, Resource], old: Iterable[Declared], part: Mapping[ResourceId, Resource]
) -> Mapping[ResourceId, Resource] | None:
    """In the order of the identities. None when there are too many."""
    resources = dict(before)
    for each in old:
        if each.resource.id not in part:
            resources.pop(each.resource.id, None)
    resources.update(part)
    if len(resources) > RESOURCES_MAX:
        return None
    return resources if all(each in before for each in part) else dict(sorted(resources.items()))


def _listeners_after(
    before: Joined, apps: Collection[_App], old: Iterable[Declared], part: Mapping[ResourceId, Resource]
) -> Mapping[_Listener, ResourceId] | None:
    """None when two want the same, or a raw listener is among them."""
    routes = [each for each in part.values() if each.id.kind == "route"]
    gone = [each.resource for each in old if each.resource.id.kind == "route"]
    if not routes and not gone:
        return before.listeners
    if any(
        each.spec["protocol"] == "tcp_raw" or each.spec["listen_port"] in before.raw_ports for each in (*routes, *gone)
    ):
        return None
    listeners = dict(before.listeners)
    for each in gone:
        listeners.pop(_listener(each), None)
    for each in routes:
        if listeners.setdefault(_listener(each), each.id) != each.id:
            return None
    return listeners


def _app_of(identity: ResourceId) -> _App:
    return identity.env, identity.app


def _listener(route: Resource) -> _Listener:
    return route.spec["listen_port"], route.spec["hostname"]
