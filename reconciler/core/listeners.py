"""What the files of a tree get wrong between them, and who listens where. Pure.

`cross_checks` and `incremental` ask with the routes of a tree, `isolation` with those that are left and those that held
apps keep: one rule says for all of them who is in whose way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.core.declared import Declared, place_of
from reconciler.core.findings import Finding
from reconciler.core.model import ResourceId
from reconciler.core.schema import finding_at

Listener = tuple[int, str]
"""Listen port and hostname."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`about`: the resource that the finding is about; then the other one, if two claim the same. `claim`: what of
    their specifications that is. `missing`: what it refers to, and what is in no file that can be read."""

    finding: Finding
    about: tuple[ResourceId, ...]
    claim: tuple[tuple[str, Any], ...] = ()
    missing: ResourceId | None = None


def fault_of(
    each: Declared, pointer: str, code: str, message: str, fix: str, missing: ResourceId | None = None
) -> Fault:
    """Of one resource by itself, or of what it refers to."""
    return Fault(_found(each, pointer, code, message, fix), (each.resource.id,), missing=missing)


def listener_of(each: Declared) -> Listener:
    return each.resource.spec["listen_port"], each.resource.spec["hostname"]


def is_raw(each: Declared) -> bool:
    return bool(each.resource.spec["protocol"] == "tcp_raw")


def by_listener(routes: Iterable[Declared]) -> Mapping[Listener, tuple[Declared, ...]]:
    """In the order of their identities."""
    found: dict[Listener, list[Declared]] = {}
    for each in sorted(routes, key=lambda each: each.resource.id):
        found.setdefault(listener_of(each), []).append(each)
    return {listener: tuple(routes) for listener, routes in found.items()}


def clashes(routes: Iterable[Declared]) -> Iterator[Fault]:
    """One hostname and listen port, one route; a raw listener has its port for itself. `routes`: each once; where one
    is, all of its listener are, and all of its port if there is a raw one."""
    by_port: dict[int, list[Declared]] = {}
    for each in sorted(routes, key=lambda each: each.resource.id):
        by_port.setdefault(each.resource.spec["listen_port"], []).append(each)
    for same in by_port.values():
        raw = next((each for each in same if is_raw(each)), None)
        first: dict[str, Declared] = {}
        for each in same:
            other = first.setdefault(each.resource.spec["hostname"], each)
            if other is not each:
                yield _clash(each, other, "hostname_twice", "hostname", "listen_port")
            elif raw is not None and raw is not each:
                yield _clash(each, raw, "listen_port_taken", "listen_port")


def _clash(each: Declared, other: Declared, code: str, *names: str) -> Fault:
    origin, spec = other.resource.origin, each.resource.spec
    by_name = names[0] == "hostname"
    what = f"{spec['hostname']}:{spec['listen_port']}" if by_name else f"the raw port {spec['listen_port']}"
    pointer = "/spec/hostname" if by_name else "/spec/listenPort"
    message = f"{what} belongs to {other.resource.id.short} at {origin.path}:{origin.line}"
    finding = _found(each, pointer, code, message, "choose another, or remove one of the routes")
    return Fault(finding, (each.resource.id, other.resource.id), tuple((name, spec[name]) for name in names))


def _found(each: Declared, pointer: str, code: str, message: str, fix: str) -> Finding:
    return finding_at(place_of(each, pointer), each.resource.origin.path, pointer, code, message, fix)
