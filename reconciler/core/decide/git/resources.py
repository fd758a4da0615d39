"""One resource: declared, removed or retained. Called by `revision`.

A declaration that equals what is there makes no event; one that differs only in its path or line makes KIND.moved.
Anything else is KIND.created or KIND.updated; what a manifest says about its own removal is KIND.marked beside it. A
resource belongs to the source that created it: the claim "resource" keeps another source from taking it, and a route
claims its listener. Only a source that takes over from the owner gets it, by declaring it: KIND.moved says so, and
nothing restarts. What the former owner then removes is not its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from reconciler.core.claims import as_claims, of_resource
from reconciler.core.commands import Claim, DeclareResource, RemoveResource, RetainResource
from reconciler.core.decide.git.state import Doc, GitState, resource_event
from reconciler.core.events import NewEvent
from reconciler.core.findings import Finding
from reconciler.core.lifecycles import SECRET, allowed, secret_state
from reconciler.core.model import Resource, ResourceId

OWNED_FIX = (
    "rename it here, or remove it there first; for a source that takes the other's place, as it is, an operator sets"
    " takes_over (docs/SOURCES.md)"
)


def declare(state: GitState, command: DeclareResource) -> tuple[NewEvent, ...]:
    resource = command.resource
    row = state.resources.get(str(resource.id))
    marked = _marked(row or {}, resource)
    if row is None:
        return (resource_event(resource.id, "created", spec=resource.spec), *marked)
    taken_over = owner_of(row, command.cause.source_id) != command.cause.source_id
    moved = (resource_event(resource.id, "moved"),)
    if row["spec"] != resource.spec or row.get("retained"):
        specs = {"spec": resource.spec, "previous_spec": row["spec"]}
        updated = resource_event(resource.id, "updated", **specs, **_home(row))
        return (*(moved if taken_over else ()), updated, *marked)
    origin = row.get("origin") or {}
    stays = (origin.get("path"), origin.get("line")) == (resource.origin.path, resource.origin.line)
    return marked if stays and not taken_over else (*moved, *marked)


def _marked(row: Doc, resource: Resource) -> tuple[NewEvent, ...]:
    marks = resource.marks
    if (bool(row.get("protect")), row.get("removal") or "") == (marks.protect, marks.removal):
        return ()
    return (resource_event(resource.id, "marked", protect=marks.protect, removal=marks.removal),)


def remove(state: GitState, command: RemoveResource) -> tuple[NewEvent, ...]:
    row = state.resources.get(str(command.resource_id))
    if row is None or owner_of(row, command.cause.source_id) != command.cause.source_id:
        return ()
    return (resource_event(command.resource_id, "deleted", **_home(row)),)


def _home(row: Doc) -> dict[str, str]:
    """Whom a volume's event concerns."""
    return {"node_id": row.get("home_node", "")} if row["kind"] == "volume" else {}


def retain(state: GitState, command: RetainResource) -> tuple[NewEvent, ...]:
    row = state.resources.get(str(command.resource_id))
    if row is None or row.get("retained") == command.reason:
        return ()
    if owner_of(row, command.cause.source_id) != command.cause.source_id:
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


def owner_of(row: Doc, default: str) -> str:
    """The source that a resource belongs to."""
    return str((row.get("origin") or {}).get("source_id", default))


def ownership_finding(state: GitState, command: DeclareResource, takes_over: Collection[str]) -> Finding | None:
    """Says no when another source declared the resource. The claim would say it too, but less well."""
    resource, source_id = command.resource, command.cause.source_id
    row = state.resources.get(str(resource.id))
    if row is None or owner_of(row, source_id) in (source_id, *takes_over):
        return None
    origin = row["origin"]
    place = f"{origin.get('path', '')}:{origin.get('line', 0)}"
    return Finding(
        path=resource.origin.path,
        line=resource.origin.line,
        column=0,
        pointer="",
        code="resource_owned",
        message=f"{resource.id.short} belongs to the source {origin['source_id']} ({place})",
        fix=OWNED_FIX,
    )


class Listeners:
    """Which hostnames and ports live routes have. `gone`: ids of routes that this revision removes or declares."""

    def __init__(self, state: GitState, gone: frozenset[str]) -> None:
        self._routes: dict[tuple[str, int], str] = {}
        self._ports: dict[int, str] = {}
        self._raw: dict[int, str] = {}
        for text, row in state.resources.items():
            if row["kind"] == "route" and text not in gone:
                hostname, port = row["spec"]["hostname"], row["spec"]["listen_port"]
                self._routes[(hostname, port)] = self._ports[port] = text
                if row["spec"]["protocol"] == "tcp_raw":
                    self._raw[port] = text

    def finding(self, route: Resource) -> Finding | None:
        """A hostname and listen port belong to one route; tcp_raw has its listen port for itself. The claims would say
        it too, but one at a time."""
        hostname, port = route.spec["hostname"], route.spec["listen_port"]
        place, code = route.origin, "listen_port_taken"
        holder = (self._ports if route.spec["protocol"] == "tcp_raw" else self._raw).get(port)
        if holder:
            message, fix = (
                f"port {port} is used by {holder}; tcp_raw shares its port with none",
                "choose another listenPort",
            )
            return Finding(place.path, place.line, 0, "/spec/listenPort", code, message, fix)
        if holder := self._routes.get((hostname, port)):
            message, fix = f"{hostname}:{port} belongs to {holder}", "choose another hostname or listen port"
            return Finding(place.path, place.line, 0, "/spec/hostname", "hostname_taken", message, fix)
        return None
