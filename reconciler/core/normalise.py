"""From a document that fits its schema to a specification: bytes, seconds, port numbers, every default filled in.

`reconciler.core.manifest` calls `NORMALISERS[kind]`. What a schema cannot say is checked here (bounds of sizes, mount
paths, ports that are named but not declared); `note` takes pointer, code, message and fix, and the specification is
not used when anything was noted.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from kit.wire import Health, Port
from reconciler.core.model import (
    AppSpec,
    EnvironmentSpec,
    ProcessSpec,
    RouteSpec,
    UpdatePolicy,
    VolumeSpec,
    VolumeUse,
)
from reconciler.core.quota_words import limits_of
from reconciler.core.schema import pointer_join

Note = Callable[[str, str, str, str], None]
Document = Mapping[str, Any]

_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_RESERVED_MOUNTS = ("/proc", "/sys", "/dev", "/run", "/tmp")  # noqa: S108  # guest paths that a volume may not cover
MEMORY_BYTES_MIN = 64 << 20
DISK_BYTES_MIN = 32 << 20
VOLUME_BYTES_MIN = 16 << 20
SIZE_BYTES_MAX = 16 << 40
"""No host has more, and the numbers stay exact in JSON."""
DURATION_S_MAX = 3600.0


def parse_size(text: str) -> int:
    """ "128Mi" -> 134217728."""
    return int(text[:-2]) * _UNITS[text[-2:]]


def parse_duration(text: str) -> float:
    """ "500ms" -> 0.5."""
    unit = "ms" if text.endswith("ms") else text[-1]
    return round(int(text.removesuffix(unit)) * _SECONDS[unit], 3)


def environment(spec: Document, note: Note) -> EnvironmentSpec:
    given = spec.get("quota", {})
    for name in ("memory", "volumeSize"):
        if name in given:
            _size(given[name], 0, "0Mi", f"/spec/quota/{name}", note)
    return EnvironmentSpec(description=spec.get("description", ""), quota=limits_of(given, parse_size))


def volume(spec: Document, note: Note) -> VolumeSpec:
    size = _size(spec["size"], VOLUME_BYTES_MIN, "16Mi", "/spec/size", note)
    return VolumeSpec(size_bytes=size, filesystem=spec.get("filesystem", "ext4"))


def route(spec: Document, _: Note) -> RouteSpec:
    """A port that is given by name is 0 here; `reconciler.core.cross_checks` looks it up in the app."""
    port = spec["port"]
    return RouteSpec(
        hostname=spec["hostname"],
        process=spec["process"],
        port=port if isinstance(port, int) else 0,
        listen_port=spec.get("listenPort", 443),
        protocol=spec.get("protocol", "tls_passthrough"),
        proxy_protocol=spec.get("proxyProtocol", "off"),
    )


def app(spec: Document, note: Note) -> AppSpec:
    processes = spec["processes"]
    return AppSpec({name: _process(processes[name], f"/spec/processes/{name}", note) for name in sorted(processes)})


def _process(given: Document, pointer: str, note: Note) -> ProcessSpec:
    ports = _ports(given.get("ports", {}), pointer_join(pointer, "ports"), note)
    volumes = _volumes(given.get("volumes", []), pointer_join(pointer, "volumes"), note)
    replicas = given.get("replicas", 1)
    if volumes and replicas > 1:
        why = f"{replicas} replicas cannot share a volume: it has one writer"
        fix = "write replicas: 1, or take the volume away"
        note(pointer_join(pointer, "replicas"), "volume_replica_limit", why, fix)
    return ProcessSpec(
        image=given["image"],
        memory_bytes=_size(given["memory"], MEMORY_BYTES_MIN, "64Mi", pointer_join(pointer, "memory"), note),
        cpu=float(given.get("cpu", 1)),
        disk_bytes=_size(given.get("disk", "1Gi"), DISK_BYTES_MIN, "32Mi", pointer_join(pointer, "disk"), note),
        replicas=replicas,
        command=tuple(given.get("command", ())),
        environment=dict(sorted(given.get("env", {}).items())),
        ports=ports,
        health=_health(given.get("health"), ports, pointer_join(pointer, "health"), note),
        volumes=volumes,
        secrets=tuple(sorted(given.get("secrets", ()))),
        update=_update(given.get("update", {}), pointer_join(pointer, "update"), note),
        restart=given.get("restart", "always"),
    )


def _update(given: Document, pointer: str, note: Note) -> UpdatePolicy:
    return UpdatePolicy(
        surge=given.get("surge", 1),
        drain_grace_s=_seconds(given, "drainGrace", "10s", pointer, note, least=0.0),
        start_timeout_s=_seconds(given, "startTimeout", "120s", pointer, note, least=1.0),
    )


def _ports(given: Mapping[str, int], pointer: str, note: Note) -> tuple[Port, ...]:
    names: dict[int, str] = {}
    for name, number in sorted(given.items()):
        if number in names:
            why = f"the ports '{names[number]}' and '{name}' are both {number}"
            note(pointer_join(pointer, name), "port_twice", why, "declare each port once")
        names.setdefault(number, name)
    return tuple(Port(name, number) for name, number in sorted(given.items()))


def _health(given: Document | None, ports: tuple[Port, ...], pointer: str, note: Note) -> Health | None:
    if given is None:
        return None
    kind = "http" if "http" in given else "tcp"
    place = pointer_join(pointer, kind, "port")
    return Health(
        kind="http" if kind == "http" else "tcp",
        port=_declared_port(given[kind]["port"], ports, place, note),
        path=given[kind].get("path", "/"),
        interval_s=_seconds(given, "interval", "10s", pointer, note, least=0.1),
        timeout_s=_seconds(given, "timeout", "2s", pointer, note, least=0.1),
        grace_s=_seconds(given, "grace", "10s", pointer, note, least=0.0),
        successes=given.get("successes", 1),
        failures=given.get("failures", 3),
    )


def _declared_port(given: str | int, ports: tuple[Port, ...], pointer: str, note: Note) -> int:
    number = find_port(given, ports)
    if number is None:
        note(pointer, "port_unknown", f"the process declares no port '{given}'", known_ports(ports))
    return number or 0


def find_port(given: str | int, ports: tuple[Port, ...]) -> int | None:
    """The number of a declared port that is given by name or number."""
    return next((port.port for port in ports if given in (port.name, port.port)), None)


def known_ports(ports: tuple[Port, ...]) -> str:
    known = ", ".join(f"{port.name}: {port.port}" for port in ports)
    return f"declared are {known}" if known else "declare it under ports"


def _volumes(given: list[Document], pointer: str, note: Note) -> tuple[VolumeUse, ...]:
    uses: list[VolumeUse] = []
    for index, each in enumerate(given):
        place = pointer_join(pointer, index)
        if problem := _mount_problem(each["path"]):
            note(pointer_join(place, "path"), "mount_path_invalid", problem, "mount it at a path such as /data")
        if other := next((use for use in uses if _overlap(use.path, each["path"])), None):
            why = f"the mount path overlaps with {other.path}"
            note(pointer_join(place, "path"), "mount_path_invalid", why, "mount volumes beside each other")
        if any(use.volume == each["name"] for use in uses):
            note(place, "volume_twice", f"the volume '{each['name']}' is mounted twice here", "mount it once")
        uses.append(VolumeUse(each["name"], each["path"], each.get("readOnly", False)))
    return tuple(uses)


def _mount_problem(path: str) -> str:
    if path != posixpath.normpath(path) or path.startswith("//"):
        return f"the mount path {path} is not in its plain form (no .., no . or //, no / at the end)"
    if path == "/":
        return "a volume cannot be mounted at /"
    if reserved := next((each for each in _RESERVED_MOUNTS if _overlap(each, path)), ""):
        return f"{reserved} belongs to the platform"
    return ""


def _overlap(left: str, right: str) -> bool:
    return left == right or left.startswith(right + "/") or right.startswith(left + "/")


def _size(text: str, least: int, least_text: str, pointer: str, note: Note) -> int:
    size = parse_size(text)
    if size < least:
        note(pointer, "size_too_small", f"{text} is too small: at least {least_text}", "ask for more")
    elif size > SIZE_BYTES_MAX:
        note(pointer, "size_too_large", f"{text} is too large: at most 16Ti", "ask for less")
    return size


def _seconds(given: Document, key: str, default: str, pointer: str, note: Note, *, least: float) -> float:
    text = given.get(key, default)
    seconds = parse_duration(text)
    if not least <= seconds <= DURATION_S_MAX:
        note(pointer_join(pointer, key), "duration_out_of_bounds", f"{text} is not between {least:g}s and 1h", "")
    return seconds


NORMALISERS: dict[str, Callable[[Document, Note], Any]] = {
    "environment": environment,
    "app": app,
    "route": route,
    "volume": volume,
}
"""A Secret is resolved instead: see `reconciler.core.secret_file.ResolveSecret`."""
