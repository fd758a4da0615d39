"""One resource: declared, removed or retained. Called by `revision`.

A declaration that equals what is there makes no event; one that differs only in its path or line makes KIND.moved.
Anything else is KIND.created or KIND.updated. A resource belongs to the source that created it, for as long as it
lives: the claim "resource" keeps another source from taking it, and a route claims its listener.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.core.claims import as_claims, of_resource
from reconciler.core.commands import Claim, DeclareResource, RemoveResource, RetainResource
from reconciler.core.decide.git.state import Doc, GitState, resource_event
from reconciler.core.events import NewEvent
from reconciler.core.findings import Finding
from reconciler.core.lifecycles import SECRET, allowed, secret_state
from reconciler.core.model import ResourceId


def declare(state: GitState, command: DeclareResource) -> tuple[NewEvent, ...]:
    resource = command.resource
    row = state.resources.get(str(resource.id))
    if row is None:
        return (resource_event(resource.id, "created", spec=resource.spec),)
    if row["spec"] != resource.spec or row.get("retained"):
        return (resource_event(resource.id, "updated", spec=resource.spec, previous_spec=row["spec"]),)
    origin = row.get("origin") or {}
    if (origin.get("path"), origin.get("line")) != (resource.origin.path, resource.origin.line):
        return (resource_event(resource.id, "moved"),)
    return ()


def remove(state: GitState, command: RemoveResource) -> tuple[NewEvent, ...]:
    row = state.resources.get(str(command.resource_id))
    if row is None:
        return ()
    home = {"node_id": row.get("home_node", "")} if command.resource_id.kind == "volume" else {}
    return (resource_event(command.resource_id, "deleted", **home),)


def retain(state: GitState, command: RetainResource) -> tuple[NewEvent, ...]:
    row = state.resources.get(str(command.resource_id))
    if row is None or row.get("retained") == command.reason:
        return ()
    if command.resource_id.kind == "secret" and not allowed(SECRET, secret_state(row), "retained"):
        return ()
    return (resource_event(command.resource_id, "retained", reason=command.reason),)


def claims_of(resource_id: ResourceId, spec: Mapping[str, Any], source_id: str) -> frozenset[Claim]:
    """What a resource with this specification holds."""
    return frozenset(as_claims(of_resource(resource_id.kind, str(resource_id), spec, source_id)))


def held_claims(row: Doc | None, resource_id: ResourceId) -> frozenset[Claim]:
    if row is None:
        return frozenset()
    return claims_of(resource_id, row["spec"], (row.get("origin") or {}).get("source_id", ""))


def ownership_finding(state: GitState, resource_id: ResourceId, source_id: str, path: str, line: int) -> Finding | None:
    """Says no when another source declared the resource. The claim would say it too, but less well."""
    row = state.resources.get(str(resource_id))
    origin = (row.get("origin") or {}) if row else {}
    owner = origin.get("source_id", source_id)
    if owner == source_id:
        return None
    return Finding(
        path=path,
        line=line,
        column=0,
        pointer="",
        code="resource_owned",
        message=f"{resource_id.short} belongs to the source {owner} ({origin.get('path', '')}:{origin.get('line', 0)})",
        fix="rename it here, or remove it there first",
    )


def listener_finding(state: GitState, command: DeclareResource, gone: frozenset[str]) -> Finding | None:
    """tcp_raw owns its listen port: no other route may use the same port. `gone`: ids that this revision removes."""
    resource = command.resource
    port, protocol = resource.spec["listen_port"], resource.spec["protocol"]
    if protocol != "tcp_raw" and port not in state.raw_ports:
        return None
    for text, row in state.routes_by_port.get(port, {}).items():
        if text in gone or text == str(resource.id):
            continue
        if "tcp_raw" in (row["spec"]["protocol"], protocol):
            return Finding(
                path=resource.origin.path,
                line=resource.origin.line,
                column=0,
                pointer="/spec/listenPort",
                code="listen_port_taken",
                message=f"port {port} is used by {text}; tcp_raw shares its port with none",
                fix="choose another listenPort",
            )
    return None
