"""Many manifest files into one tree: every reference leads somewhere, nothing is claimed twice.

`reconciler.git.tree_reader` joins the files of a commit (`incremental`); the planner compares the trees. A reference is
not called unknown while some file could not be read far enough to say what it declares: the syntax error is the news
then, not what follows from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kit.wire import Port
from reconciler.core.declared import Declared, ManifestFile
from reconciler.core.findings import Finding, nearest, ordered
from reconciler.core.listeners import Fault, Listener, by_listener, clashes, fault_of, is_raw
from reconciler.core.model import NO_PART, Kind, Resource, ResourceId
from reconciler.core.normalise import find_port, known_ports
from reconciler.core.schema import pointer_join
from reconciler.core.secret_file import FILE_BYTES_MAX, KEYS_MAX

RESOURCES_MAX = 20_000
"""Of one source; a batch of so many commands still commits in one transaction."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What a commit declares, by identity. `mark` stands for this very tree. `base`: the mark of one from which it
    differs in `touched` at most."""

    resources: Mapping[ResourceId, Resource] = field(default_factory=dict)
    mark: object = field(default_factory=object, compare=False, repr=False)
    base: object = field(default=None, compare=False, repr=False)
    touched: frozenset[ResourceId] = field(default=frozenset(), compare=False, repr=False)


App = tuple[str, str]
"""Environment and app; app "-" is the environment itself."""


@dataclass(frozen=True, slots=True)
class Index:
    """Of the files of a tree. `count`: of declarations. `paths`: app -> the files that declare something of it, well or
    with mistakes. `listeners`: their routes, in the order of the identities. `raw_ports`: with a listener that shares
    them with nobody. `noted`: the files that there is something to say of, or that cannot be read as a whole."""

    count: int = 0
    paths: Mapping[App, frozenset[str]] = field(default_factory=dict)
    listeners: Mapping[Listener, tuple[Declared, ...]] = field(default_factory=dict)
    raw_ports: frozenset[int] = frozenset()
    noted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Assembled:
    """The tree holds every resource that is good in itself; it may only be applied when no finding is an error.
    `files` (by path), `more`: what it was made of. `faults`: what the cross-checks found, in order. `unsure`: what they
    would have found if the files that cannot be read declared nothing. `index`: None when it is beyond a bound."""

    tree: Tree
    findings: tuple[Finding, ...]
    files: Mapping[str, ManifestFile] = field(default_factory=dict)
    more: tuple[Finding, ...] = ()
    faults: tuple[Fault, ...] = ()
    unsure: tuple[Fault, ...] = ()
    index: Index | None = None


def assemble(files: Iterable[ManifestFile], more: Iterable[Finding] = ()) -> Assembled:
    """`more`: what the walk through the tree found."""
    files = tuple(sorted(files, key=lambda file: file.path))
    if (count := sum(len(file.declared) for file in files)) > RESOURCES_MAX:
        return Assembled(Tree(), (too_many_resources(count),))
    joining = _Joining(files)
    joining.run()
    index = _index(files, count, joining.routes)
    return assembled(Tree(joining.resources), {file.path: file for file in files}, more, joining.faults, index)


def assembled(
    tree: Tree, files: Mapping[str, ManifestFile], more: Iterable[Finding], faults: Iterable[Fault], index: Index
) -> Assembled:
    """`faults`: all of them; which are unsure is said here."""
    more, noted = tuple(more), [files[path] for path in index.noted]
    in_order = sorted(faults, key=lambda fault: (fault.finding, fault.about))
    opaque = any(file.opaque for file in noted)
    sure = tuple(each for each in in_order if not (opaque and each.missing))
    unsure = tuple(each for each in in_order if opaque and each.missing)
    own = (finding for file in noted for finding in file.findings)
    findings = ordered([*own, *(fault.finding for fault in sure), *more])
    return Assembled(tree, findings, files, more, sure, unsure, index)


def _index(files: Sequence[ManifestFile], count: int, routes: Sequence[Declared]) -> Index:
    paths: dict[App, set[str]] = {}
    for file in files:
        for app in apps_in(file):
            paths.setdefault(app, set()).add(file.path)
    return Index(
        count,
        {app: frozenset(found) for app, found in paths.items()},
        by_listener(routes),
        frozenset(each.resource.spec["listen_port"] for each in routes if is_raw(each)),
        frozenset(file.path for file in files if is_noted(file)),
    )


def is_noted(file: ManifestFile) -> bool:
    return bool(file.findings or file.opaque or file.broken)


def apps_in(file: ManifestFile) -> set[App]:
    return {app_of(each) for each in (*(one.resource.id for one in file.declared), *file.broken)}


def app_of(identity: ResourceId) -> App:
    return identity.env, identity.app


def too_many_resources(count: int) -> Finding:
    message = f"the tree declares {count} resources; a source may declare {RESOURCES_MAX}"
    return Finding("", 0, 0, "", "too_many_resources", message, "split it into several sources")


class _Joining:
    def __init__(self, files: Sequence[ManifestFile]) -> None:
        self.faults: list[Fault] = []
        self._declared: dict[ResourceId, Declared] = {}
        self._broken = {identity for file in files for identity in file.broken}
        self._names: dict[tuple[str, str, str], list[str]] = {}
        for file in files:
            for each in file.declared:
                self._declare(each)
        for identity in (*self._declared, *self._broken):
            self._names.setdefault(_family(identity), []).append(identity.name)
        self.resources = {identity: each.resource for identity, each in sorted(self._declared.items())}
        self.routes = [each for identity, each in self._declared.items() if identity.kind == "route"]

    def run(self) -> None:
        for each in self._declared.values():
            self._parents(each)
            if each.resource.id.kind == "app":
                self._app(each)
            elif each.resource.id.kind == "route":
                self._route(each)
        self.faults += clashes(self.routes)

    def _declare(self, each: Declared) -> None:
        first = self._declared.setdefault(each.resource.id, each)
        if first is not each:
            place = f"{first.resource.origin.path}:{first.resource.origin.line}"
            message = f"{each.resource.id.short} is declared here and at {place}"
            self._note(
                each, "/metadata/name", "declared_twice", message, "keep one of the two, or give it another name"
            )

    def _parents(self, each: Declared) -> None:
        identity = each.resource.id
        if identity.kind != "environment":
            environment = dataclasses.replace(identity, app=NO_PART, kind="environment", name=identity.env)
            self._refer(each, environment, "/metadata/env")
        if identity.kind not in ("environment", "app"):
            self._refer(each, _sibling(identity, "app", identity.app), "/metadata/app")

    def _refer(self, each: Declared, wanted: ResourceId, pointer: str) -> None:
        """A reference to a resource that has to be in the tree."""
        if wanted in self._declared or wanted in self._broken:
            return
        of_app = wanted.kind not in ("environment", "app")
        scope = f" in app '{wanted.app}' of environment '{wanted.env}'" if of_app else ""
        scope = f" in environment '{wanted.env}'" if wanted.kind == "app" else scope
        names = self._names.get(_family(wanted), [])
        near = nearest(wanted.name, names)
        known = (
            f"known are {', '.join(sorted(names)[:10])}" if names else f"declare it: kind {wanted.kind.capitalize()}"
        )
        fix = f"did you mean '{near}'?" if near else known
        self._note(
            each, pointer, f"{wanted.kind}_unknown", f"there is no {wanted.kind} '{wanted.name}'{scope}", fix, wanted
        )

    def _app(self, each: Declared) -> None:
        mounted: dict[str, tuple[str, bool]] = {}
        for name, process in each.resource.spec["processes"].items():
            pointer = pointer_join("/spec/processes", name)
            self._volumes(each, name, process["volumes"], pointer_join(pointer, "volumes"), mounted)
            self._secrets(each, process["secrets"], pointer_join(pointer, "secrets"))

    def _volumes(
        self,
        each: Declared,
        process: str,
        uses: Sequence[Mapping[str, Any]],
        pointer: str,
        mounted: dict[str, tuple[str, bool]],
    ) -> None:
        for index, use in enumerate(uses):
            place = pointer_join(pointer, index, "name")
            self._refer(each, _sibling(each.resource.id, "volume", use["volume"]), place)
            other, other_reads = mounted.setdefault(use["volume"], (process, use["read_only"]))
            if other != process and not (other_reads and use["read_only"]):
                message = f"the processes '{other}' and '{process}' both mount the volume '{use['volume']}'"
                fix = "a volume that is written belongs to one process: use two volumes"
                self._note(each, place, "volume_in_use", message, fix)

    def _secrets(self, each: Declared, names: Sequence[str], pointer: str) -> None:
        keys: dict[str, str] = {}
        total_bytes = 0
        for name in names:
            self._refer(each, _sibling(each.resource.id, "secret", name), pointer)
            secret = self._declared.get(_sibling(each.resource.id, "secret", name))
            if secret is None:
                continue
            total_bytes += secret.secret_bytes
            for key in secret.resource.spec["keys"]:
                if (other := keys.setdefault(key, name)) != name:
                    message = f"the secrets '{other}' and '{name}' both have the key {key}"
                    self._note(each, pointer, "secret_key_twice", message, "rename the key in one of them")
        if len(keys) > KEYS_MAX or total_bytes > FILE_BYTES_MAX - 64:
            message = f"the secrets together have {len(keys)} keys and {total_bytes} bytes"
            fix = f"a process may have {KEYS_MAX} keys and {FILE_BYTES_MAX} bytes"
            self._note(each, pointer, "secret_too_large", message, fix)

    def _route(self, each: Declared) -> None:
        app = self._declared.get(_sibling(each.resource.id, "app", each.resource.id.app))
        if app is None:
            return
        processes = app.resource.spec["processes"]
        name = each.resource.spec["process"]
        if name not in processes:
            near = nearest(name, processes)
            fix = f"did you mean '{near}'?" if near else f"known are {', '.join(processes)}"
            message = f"the app '{each.resource.id.app}' has no process '{name}'"
            self._note(each, "/spec/process", "process_unknown", message, fix)
            return
        ports = tuple(Port(port["name"], port["port"]) for port in processes[name]["ports"])
        number = find_port(each.port, ports)
        if number is None:
            message = f"the process '{name}' of the app '{each.resource.id.app}' declares no port '{each.port}'"
            self._note(each, "/spec/port", "port_unknown", message, known_ports(ports))
            return
        spec = {**each.resource.spec, "port": number}
        self.resources[each.resource.id] = dataclasses.replace(each.resource, spec=spec)

    def _note(
        self, each: Declared, pointer: str, code: str, message: str, fix: str, missing: ResourceId | None = None
    ) -> None:
        self.faults.append(fault_of(each, pointer, code, message, fix, missing))


def _sibling(identity: ResourceId, kind: Kind, name: str) -> ResourceId:
    """A resource of the same app and environment."""
    return dataclasses.replace(identity, kind=kind, name=name)


def _family(identity: ResourceId) -> tuple[str, str, str]:
    """Within one family a name says which one is meant."""
    match identity.kind:
        case "environment":
            return (identity.kind, "", "")
        case "app":
            return (identity.kind, identity.env, "")
        case _:
            return (identity.kind, identity.env, identity.app)
