"""RoutePlan -> RouteTable: normalise, and refuse what is unusable or ambiguous.

Called by `edge.loop` for every plan. A refused route stops only itself. When several routes claim one thing (a hostname
on a port, or a whole port), the one that held it in the table before keeps it and the others are refused; when none
held it, all claimants are refused, because a guess could send a client to another tenant.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from ipaddress import ip_address

from edge.core.limits import BACKENDS_PER_ROUTE_MAX, HOSTNAME_CHARS_MAX, ROUTES_MAX
from edge.core.table import EMPTY, Finding, Reading, Route, RouteTable, Server, table_of
from kit.wire import Backend, PlannedRoute, RoutePlan

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_TEXT_SAFE = re.compile(r"[\x21-\x7e]{1,512}")


def read_plan(plan: RoutePlan, held: RouteTable = EMPTY) -> Reading:
    """`held` is the table that the edge serves until now."""
    findings: list[Finding] = []
    usable = [route for planned in plan.routes if (route := _read_route(planned, findings)) is not None]
    usable = _within_bound(_without_repeated_ids(usable, findings), findings)
    usable = _sole_holders_of_ports(usable, held, findings)
    usable = _sole_holders_of_keys(usable, held, findings)
    return Reading(table_of(usable), tuple(sorted(findings, key=lambda f: (f.route_id, f.code, f.backend or ""))))


def _read_route(planned: PlannedRoute, findings: list[Finding]) -> Route | None:
    hostname = planned.hostname.lower().removesuffix(".")
    complaint = _complaint(planned, hostname)
    if complaint:
        findings.append(Finding(planned.route_id, *complaint))
        return None
    servers = _read_servers(planned, findings)
    if planned.protocol == "tcp_raw":
        hostname = ""
    return Route(planned.route_id, hostname, planned.listen_port, planned.protocol, servers)


def _complaint(planned: PlannedRoute, hostname: str) -> tuple[str, str] | None:
    if not 1 <= planned.listen_port <= 65535:
        return "port_invalid", f"listen port {planned.listen_port} is not between 1 and 65535"
    if planned.protocol == "tls_passthrough" and not _is_hostname(hostname):
        return "hostname_invalid", f"{planned.hostname!r} is not an exact DNS name in ASCII (xn-- for others)"
    return None


def _is_hostname(name: str) -> bool:
    return 0 < len(name) <= HOSTNAME_CHARS_MAX and all(_LABEL.fullmatch(label) for label in name.split("."))


def _read_servers(planned: PlannedRoute, findings: list[Finding]) -> tuple[Server, ...]:
    servers = set()
    for backend in planned.backends:
        why = _unusable(backend)
        if why:
            findings.append(Finding(planned.route_id, "backend_invalid", why, backend.instance_id))
        else:
            address = ip_address(backend.address).compressed
            servers.add(Server(backend.instance_id, address, backend.port, planned.proxy_protocol == "v2"))
    kept = sorted(servers)
    for server in kept[BACKENDS_PER_ROUTE_MAX:]:
        why = f"a route has at most {BACKENDS_PER_ROUTE_MAX} backends"
        findings.append(Finding(planned.route_id, "too_many_backends", why, server.instance_id))
    return tuple(kept[:BACKENDS_PER_ROUTE_MAX])


def _unusable(backend: Backend) -> str:
    if not _TEXT_SAFE.fullmatch(backend.instance_id):
        return "its instance id is not printable ASCII"
    if not 1 <= backend.port <= 65535:
        return f"port {backend.port} is not between 1 and 65535"
    try:
        address = ip_address(backend.address)
    except ValueError:
        return f"{backend.address!r} is not an IP address"
    if "%" in backend.address or address.is_multicast or address.is_unspecified:
        return f"{backend.address} is not the address of one machine"
    return ""


def _without_repeated_ids(routes: list[Route], findings: list[Finding]) -> list[Route]:
    """The same route twice in equal form is one route; in two forms it is refused."""
    distinct = list(dict.fromkeys(routes))
    counts = Counter(route.route_id for route in distinct)
    repeated = sorted(route_id for route_id, count in counts.items() if count > 1)
    findings.extend(Finding(i, "route_repeated", "the plan has this route twice, in different forms") for i in repeated)
    return [route for route in distinct if counts[route.route_id] == 1]


def _within_bound(routes: list[Route], findings: list[Finding]) -> list[Route]:
    ordered = sorted(routes, key=lambda route: route.route_id)
    why = f"an edge serves at most {ROUTES_MAX} routes"
    findings.extend(Finding(route.route_id, "too_many_routes", why) for route in ordered[ROUTES_MAX:])
    return ordered[:ROUTES_MAX]


def _sole_holders_of_ports(routes: list[Route], held: RouteTable, findings: list[Finding]) -> list[Route]:
    """A port is shared by TLS routes or owned by one raw route. All TLS routes of a port claim it as one."""
    holders = {route.listen_port: _port_claim(route) for route in held.routes}
    claims: dict[int, set[str]] = defaultdict(set)
    for route in routes:
        claims[route.listen_port].add(_port_claim(route))

    def lost(route: Route) -> bool:
        return len(claims[route.listen_port]) > 1 and holders.get(route.listen_port) != _port_claim(route)

    for route in filter(lost, routes):
        others = _list(claims[route.listen_port] - {_port_claim(route)})
        why = f"port {route.listen_port} is also claimed by {others}; a raw port cannot be shared"
        findings.append(Finding(route.route_id, "port_ambiguous", why))
    return [route for route in routes if not lost(route)]


def _port_claim(route: Route) -> str:
    return "TLS routes" if route.protocol == "tls_passthrough" else f"raw route {route.route_id}"


def _sole_holders_of_keys(routes: list[Route], held: RouteTable, findings: list[Finding]) -> list[Route]:
    """After the ports are settled only TLS routes can still meet, on one hostname."""
    holders = {route.key: route.route_id for route in held.routes}
    claims: dict[str, set[str]] = defaultdict(set)
    for route in routes:
        claims[route.key].add(route.route_id)

    def lost(route: Route) -> bool:
        return len(claims[route.key]) > 1 and holders.get(route.key) != route.route_id

    for route in filter(lost, routes):
        others = _list(claims[route.key] - {route.route_id})
        why = f"{route.hostname} on port {route.listen_port} is also claimed by {others}"
        findings.append(Finding(route.route_id, "hostname_ambiguous", why))
    return [route for route in routes if not lost(route)]


def _list(claimants: set[str]) -> str:
    shown = sorted(claimants)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
