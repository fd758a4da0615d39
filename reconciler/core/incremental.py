"""A tree joined onto one that was joined before: the work follows what changed, the outcome is that of `assemble`.

`reconciler.git.tree_reader` calls `join` for each commit. Every reference stays within one app and its environment, so
only the apps with a changed file are checked again, good or not; what is unique among all (listeners) is held in an
index that goes from tree to tree. Where something is not as simple as that (an environment that comes or goes, a raw
listener, an app that nobody declares), everything is joined anew: that takes longer, and says exactly the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from reconciler.core.cross_checks import (
    RESOURCES_MAX,
    App,
    Assembled,
    Index,
    Tree,
    app_of,
    apps_in,
    assemble,
    assembled,
    is_noted,
)
from reconciler.core.declared import Declared, ManifestFile
from reconciler.core.findings import Finding
from reconciler.core.listeners import Fault, Listener, clashes, is_raw, listener_of
from reconciler.core.model import NO_PART, Resource, ResourceId


def join(
    files: Mapping[str, ManifestFile], more: tuple[Finding, ...], before: Assembled | None, changed: Collection[str]
) -> Assembled:
    """`changed`: the paths at which `files` may differ from those of `before`. `more`: as for `assemble`."""
    found = _onto(before, before.index, files, more, changed) if before and before.index else None
    return found or assemble(files.values(), more)


def _onto(
    before: Assembled,
    index: Index,
    files: Mapping[str, ManifestFile],
    more: tuple[Finding, ...],
    changed: Collection[str],
) -> Assembled | None:
    """None when it is not as simple as that."""
    old = [before.files[path] for path in changed if path in before.files]
    new = [files[path] for path in changed if path in files]
    apps = {app for file in (*old, *new) for app in apps_in(file)}
    count = index.count + sum(len(file.declared) for file in new) - sum(len(file.declared) for file in old)
    if count > RESOURCES_MAX or _names(old, "environment") != _names(new, "environment"):
        return None
    paths = _paths_after(index, old, new)
    part = assemble(_parts(files, paths, apps))
    faults = [*part.faults, *part.unsure]
    if part.index is None or _missing(faults, "environment", "app"):
        return None  # which ones are known is told to whoever refers to none of them
    if _missing((*before.faults, *before.unsure), "app") and _names(old, "app") != _names(new, "app"):
        return None
    gone = [each for each in _declared(_parts(before.files, index.paths, apps)) if app_of(each.resource.id) in apps]
    come = [each for routes in part.index.listeners.values() for each in routes]
    routes = [each for each in gone if each.resource.id.kind == "route"]
    if any(is_raw(each) or each.resource.spec["listen_port"] in index.raw_ports for each in (*routes, *come)):
        return None
    listeners = _listeners_after(index, apps, routes, come)
    touched = {listener_of(each) for each in (*routes, *come)}
    resources = _resources_after(before.tree.resources, gone, part.tree.resources)
    differing = frozenset((*(each.resource.id for each in gone), *part.tree.resources))
    noted = index.noted - {file.path for file in old} | {file.path for file in new if is_noted(file)}
    return assembled(
        Tree(resources, base=before.tree.mark, touched=differing),
        files,
        more,
        [
            *_elsewhere((*before.faults, *before.unsure), apps, touched),
            *(each for each in faults if not each.claim and app_of(each.about[0]) in apps),
            *clashes(each for listener in touched for each in listeners.get(listener, ())),
        ],
        Index(count, paths, listeners, index.raw_ports, frozenset(noted)),
    )


def _declared(files: Iterable[ManifestFile]) -> list[Declared]:
    return [each for file in files for each in file.declared]


def _names(files: Iterable[ManifestFile], kind: str) -> tuple[set[ResourceId], set[ResourceId]]:
    """What they declare of this kind, and what they declare with mistakes."""
    files = list(files)
    good = {each.resource.id for each in _declared(files) if each.resource.id.kind == kind}
    return good, {identity for file in files for identity in file.broken if identity.kind == kind}


def _missing(faults: Iterable[Fault], *kinds: str) -> bool:
    return any(fault.missing is not None and fault.missing.kind in kinds for fault in faults)


def _elsewhere(faults: Iterable[Fault], apps: Collection[App], touched: Collection[Listener]) -> Iterable[Fault]:
    """Those that are as they were."""
    for fault in faults:
        claim = dict(fault.claim)
        if (
            (claim.get("listen_port"), claim.get("hostname")) not in touched
            if claim
            else (app_of(fault.about[0]) not in apps)
        ):
            yield fault


def _paths_after(
    index: Index, old: Iterable[ManifestFile], new: Iterable[ManifestFile]
) -> Mapping[App, frozenset[str]]:
    paths = dict(index.paths)
    for file in old:
        for app in apps_in(file):
            paths[app] = paths.get(app, frozenset()) - {file.path}
    for file in new:
        for app in apps_in(file):
            paths[app] = paths.get(app, frozenset()) | {file.path}
    for app in {app for file in old for app in apps_in(file)}:
        if not paths[app]:
            del paths[app]
    return paths


def _parts(
    files: Mapping[str, ManifestFile], paths: Mapping[App, frozenset[str]], apps: Collection[App]
) -> list[ManifestFile]:
    """What the apps declare, wherever, and their environments."""
    wanted = {*apps, *((env, NO_PART) for env, _ in apps)}
    return [
        dataclasses.replace(
            files[path],
            declared=tuple(each for each in files[path].declared if app_of(each.resource.id) in wanted),
            broken=tuple(each for each in files[path].broken if app_of(each) in wanted),
            findings=(),
        )
        for path in sorted({path for app in wanted for path in paths.get(app, ())})
    ]


def _resources_after(
    before: Mapping[ResourceId, Resource], gone: Iterable[Declared], part: Mapping[ResourceId, Resource]
) -> Mapping[ResourceId, Resource]:
    """In the order of the identities."""
    resources = dict(before)
    for each in gone:
        if each.resource.id not in part:
            resources.pop(each.resource.id, None)
    resources.update(part)
    return resources if all(each in before for each in part) else dict(sorted(resources.items()))


def _listeners_after(
    index: Index, apps: Collection[App], gone: Iterable[Declared], come: Iterable[Declared]
) -> Mapping[Listener, tuple[Declared, ...]]:
    listeners = dict(index.listeners)
    for listener in {listener_of(each) for each in gone}:
        left = tuple(each for each in listeners.get(listener, ()) if app_of(each.resource.id) not in apps)
        listeners[listener] = left
    for each in come:
        listener = listener_of(each)
        both = (*listeners.get(listener, ()), each)
        listeners[listener] = tuple(sorted(both, key=lambda one: one.resource.id))
    for listener in {listener_of(each) for each in gone}:
        if not listeners[listener]:
            del listeners[listener]
    return listeners
