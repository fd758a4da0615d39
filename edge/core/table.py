"""What an edge should serve: a route table, in one normal form.

Made by `edge.core.reading` from a RoutePlan, placed on slots by `layout`, rendered by `config`, compared by `converge`.
Equal meaning is equal data: everything is lower-case, sorted and without duplicates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from kit.canonical import digest

Protocol = Literal["tls_passthrough", "tcp_raw"]
_NAME_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_NAME_CHARS_MAX = 48


@dataclass(frozen=True, slots=True, order=True)
class Server:
    """One backend of a route. `address` is an IP address in its shortest form."""

    instance_id: str
    address: str
    port: int
    proxy_v2: bool

    @property
    def name(self) -> str:
        """The server's name in the dataplane. It changes when anything about the server changes, so that a changed
        server is a new one and the old one is drained."""
        readable = _NAME_UNSAFE.sub("-", self.instance_id)[:_NAME_CHARS_MAX]
        return f"{readable}.{digest([self.instance_id, self.address, self.port, self.proxy_v2], length=12)}"

    @property
    def endpoint(self) -> str:
        """ADDRESS:PORT, with brackets round IPv6."""
        return (
            f"[{self.address}]:{self.port}" if ip_address(self.address).version == 6 else f"{self.address}:{self.port}"
        )


@dataclass(frozen=True, slots=True)
class Route:
    route_id: str
    hostname: str  # empty for tcp_raw: it owns its port whatever the name
    listen_port: int
    protocol: Protocol
    servers: tuple[Server, ...] = ()  # sorted; may be empty: then connections end at once

    @property
    def key(self) -> str:
        """What a connection is looked up by: "443/www.example.org", or "5432/" for a raw port."""
        return f"{self.listen_port}/{self.hostname}"


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Routes sorted by key. No two have the same key or the same route_id; a raw port has exactly one route."""

    routes: tuple[Route, ...] = ()

    @property
    def listeners(self) -> dict[int, Protocol]:
        """The ports to listen on, ascending."""
        return dict(sorted({route.listen_port: route.protocol for route in self.routes}.items()))

    @property
    def by_id(self) -> dict[str, Route]:
        return {route.route_id: route for route in self.routes}

    @property
    def served(self) -> dict[str, frozenset[str]]:
        """Key -> names of its servers: what a dataplane that matches this table answers when it is asked."""
        return {route.key: frozenset(server.name for server in route.servers) for route in self.routes}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a plan that the edge does not serve: a whole route, or one backend of it."""

    route_id: str
    code: str
    why: str
    backend: str | None = None  # the instance id, when only that backend is left out


@dataclass(frozen=True, slots=True)
class Reading:
    """A table, and what had to be left out of it."""

    table: RouteTable
    findings: tuple[Finding, ...] = ()

    @property
    def refused(self) -> dict[str, Finding]:
        return {finding.route_id: finding for finding in self.findings if finding.backend is None}


EMPTY = RouteTable()


def table_of(routes: Iterable[Route]) -> RouteTable:
    return RouteTable(tuple(sorted(routes, key=lambda route: (route.listen_port, route.hostname))))


def without_ports(reading: Reading, blocked: Mapping[int, str]) -> Reading:
    """The reading without the routes on ports that this host cannot listen on. `blocked`: port -> why."""
    out = [route for route in reading.table.routes if route.listen_port in blocked]
    findings = [Finding(route.route_id, "port_unavailable", blocked[route.listen_port]) for route in out]
    kept = [route for route in reading.table.routes if route.listen_port not in blocked]
    return Reading(table_of(kept), (*reading.findings, *findings))
