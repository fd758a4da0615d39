"""Specifications and numbers in the words of people. Pure; a part of `reconciler.core.explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Doc = Mapping[str, Any]
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count_bytes: float) -> str:
    """1073741824 -> "1 GiB"; at most one digit behind the point."""
    unit = 0
    while count_bytes >= 1024 and unit < len(_UNITS) - 1:
        count_bytes, unit = count_bytes / 1024, unit + 1
    return f"{round(count_bytes, 1):g} {_UNITS[unit]}"


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def spec_summary(kind: str, spec: Doc) -> tuple[str, ...]:
    """The lines that a person checks first. A secret shows its keys, never a value; the specification has none."""
    match kind:
        case "app":
            return tuple(line for name, each in sorted(spec["processes"].items()) for line in _process(name, each))
        case "route":
            proxy = f", PROXY {spec['proxy_protocol']}" if spec.get("proxy_protocol", "off") != "off" else ""
            listen = (
                f"{spec['hostname']}:{spec.get('listen_port', 443)} ({spec.get('protocol', 'tls_passthrough')}{proxy})"
            )
            return (f"{listen} -> process {spec['process']}, port {spec['port']}",)
        case "volume":
            return (f"{size(spec['size_bytes'])} {spec.get('filesystem', 'ext4')}",)
        case "secret":
            return (f"version {spec['version_id'][:12]} with {', '.join(spec.get('keys') or ()) or 'no keys'}",)
        case _:
            return (spec.get("description") or "no description",)


def _process(name: str, spec: Doc) -> list[str]:
    uses = [f"volume {each['volume']} at {each['path']}" for each in spec.get("volumes") or ()]
    uses += [f"secret {each}" for each in spec.get("secrets") or ()]
    ports = [f"{each['name']}:{each['port']}" for each in spec.get("ports") or ()]
    count = plural(spec.get("replicas", 1), "replica")
    needs = f"memory {size(spec['memory_bytes'])}, cpu {spec.get('cpu', 1.0):g}"
    lines = [f"{name}: {count} of {spec['image']}", f"{name}: {needs}, restart {spec.get('restart', 'always')}"]
    if ports:
        lines.append(f"{name}: ports {' '.join(ports)}, {_health(spec.get('health'))}")
    if uses:
        lines.append(f"{name}: " + ", ".join(uses))
    return lines


def _health(health: Doc | None) -> str:
    if not health:
        return "no health check"
    path = health.get("path", "/") if health["kind"] == "http" else ""
    return f"health check {health['kind']} {health['port']}{path}"
