"""Table wanted and dataplane observed -> named actions, in the order in which they are done.

Servers are added before the map leads to them, and the map is changed before servers are drained, so that at no moment
a connection is sent to a place that cannot serve it. Called by `edge.dataplane.haproxy`, which does what this says and
has no choice left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.core.config import Options, map_entries, settings_digest, slot_name
from edge.core.layout import Layout
from edge.core.table import Protocol, RouteTable, Server


@dataclass(frozen=True, slots=True, order=True)
class ServerRef:
    slot: int
    name: str

    @property
    def path(self) -> str:
        return f"{slot_name(self.slot)}/{self.name}"


@dataclass(frozen=True, slots=True)
class ObservedServer:
    """`ready`: it gets new connections while its health check passes. Else it drains or was never enabled."""

    ref: ServerRef
    endpoint: str
    ready: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """A running haproxy, as it answers when asked."""

    settings: str  # settings_digest of what it was loaded with
    listeners: Mapping[int, Protocol]
    slots: int
    servers: tuple[ObservedServer, ...] = ()
    entries: Mapping[str, str] = field(default_factory=dict)  # key -> slot name
    sessions: Mapping[int, int] = field(default_factory=dict)  # slot -> open connections; absent: none

    @property
    def busy(self) -> frozenset[int]:
        """Slots that hold anything of any route, past or present."""
        return frozenset(server.ref.slot for server in self.servers) | frozenset(
            slot for slot, count in self.sessions.items() if count
        )

    @property
    def served(self) -> dict[str, frozenset[str]]:
        """Key -> names of the servers that get new connections. Comparable with `RouteTable.served`."""
        ready: dict[str, set[str]] = {}
        for server in self.servers:
            if server.ready:
                ready.setdefault(slot_name(server.ref.slot), set()).add(server.ref.name)
        return {key: frozenset(ready.get(slot, ())) for key, slot in self.entries.items()}


@dataclass(frozen=True, slots=True)
class Wanted:
    table: RouteTable
    layout: Layout
    options: Options


@dataclass(frozen=True, slots=True)
class Actions:
    """`reload`: why the running process cannot be changed in place; it then loads the files, which is all."""

    reload: tuple[str, ...] = ()
    add: tuple[tuple[ServerRef, Server], ...] = ()
    enable: tuple[ServerRef, ...] = ()
    set_entries: Mapping[str, str] | None = None  # the whole new map, swapped at once; None: it is right already
    drain: tuple[ServerRef, ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.reload or self.add or self.enable or self.drain) and self.set_entries is None


def converge(wanted: Wanted, observed: Observed) -> Actions:
    servers = {
        ServerRef(wanted.layout.placed[route.route_id], server.name): server
        for route in wanted.table.routes
        for server in route.servers
    }
    there = {server.ref: server for server in observed.servers}
    entries = map_entries(wanted.table, wanted.layout)
    reload = _reasons_to_reload(wanted, observed, servers, there)
    if reload:
        return Actions(reload=reload)
    return Actions(
        add=tuple((ref, servers[ref]) for ref in sorted(servers.keys() - there.keys())),
        enable=tuple(sorted(ref for ref in servers.keys() & there.keys() if not there[ref].ready)),
        set_entries=entries if entries != observed.entries else None,
        drain=tuple(sorted(ref for ref in there.keys() - servers.keys() if there[ref].ready)),
    )


def gone_from_plan(wanted: Wanted, observed: Observed) -> frozenset[ServerRef]:
    """Servers to remove once their connections have ended."""
    kept = {
        ServerRef(wanted.layout.placed[route.route_id], server.name)
        for route in wanted.table.routes
        for server in route.servers
    }
    return frozenset(server.ref for server in observed.servers) - kept


def _reasons_to_reload(
    wanted: Wanted,
    observed: Observed,
    servers: Mapping[ServerRef, Server],
    there: Mapping[ServerRef, ObservedServer],
) -> tuple[str, ...]:
    reasons = []
    if observed.settings != settings_digest(wanted.options):
        reasons.append("the options changed")
    for port, protocol in wanted.table.listeners.items():
        if observed.listeners.get(port) != protocol:
            reasons.append(f"listen on port {port} ({protocol})")
    for port in sorted(observed.listeners.keys() - wanted.table.listeners.keys()):
        reasons.append(f"stop listening on port {port}")
    if observed.slots < wanted.layout.slots:
        reasons.append(f"grow from {observed.slots} to {wanted.layout.slots} slots")
    for ref in sorted(servers.keys() & there.keys()):
        if there[ref].endpoint != servers[ref].endpoint:
            reasons.append(f"server {ref.path} was changed by another hand to {there[ref].endpoint}")
    return tuple(reasons)
