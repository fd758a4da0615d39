"""RoutePlan -> RouteTable: what is normalised, what is refused, and whom a refusal stops."""

from __future__ import annotations

from typing import Literal

import pytest

from edge.core.reading import read_plan
from edge.core.table import EMPTY, Reading, RouteTable, without_ports
from kit.wire import Backend, PlannedRoute, RoutePlan


def tls(route_id: str, hostname: str, *backends: Backend, port: int = 443) -> PlannedRoute:
    return PlannedRoute(route_id, hostname, port, "tls_passthrough", "off", backends)


def raw(route_id: str, port: int, *backends: Backend) -> PlannedRoute:
    return PlannedRoute(route_id, "db.example", port, "tcp_raw", "off", backends)


def read(*routes: PlannedRoute, held: RouteTable = EMPTY) -> Reading:
    return read_plan(RoutePlan("edge-a", "log", 1, routes), held)


def ids(reading: Reading) -> list[str]:
    return [route.route_id for route in reading.table.routes]


def codes(reading: Reading) -> dict[str, str]:
    return {finding.route_id: finding.code for finding in reading.findings}


B = Backend("i-1", "fd00::1", 8443)


def test_equal_meaning_is_an_equal_table() -> None:
    one = read(tls("a", "A.Example.", Backend("i-1", "FD00:0::1", 8443), B), tls("b", "b.example"))
    other = read(tls("b", "b.example"), tls("a", "a.example", B))
    assert one.table == other.table
    assert one.findings == ()
    assert one.table.served["443/a.example"] == {one.table.routes[0].servers[0].name}


@pytest.mark.parametrize(
    "hostname",
    [
        "",
        "*.a.example",
        "a b.example",
        "a\nb",
        "-a.example",
        "a..b",
        "x" * 64 + ".example",
        "bücher.example",
        "a.example..",
        "\x00",
        "a" * 254,
        "sl/ash.example",
    ],
)
def test_a_name_that_could_not_be_an_exact_dns_name_is_refused_alone(hostname: str) -> None:
    reading = read(tls("bad", hostname, B), tls("good", "good.example", B))
    assert ids(reading) == ["good"]
    assert codes(reading) == {"bad": "hostname_invalid"}


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_refused_alone(port: int) -> None:
    reading = read(raw("bad", port, B), tls("good", "good.example", B))
    assert (ids(reading), codes(reading)) == (["good"], {"bad": "port_invalid"})


@pytest.mark.parametrize(
    "backend",
    [
        Backend("i-2", "localhost", 80),
        Backend("i-2", "fe80::1%eth0", 80),
        Backend("i-2", "::", 80),
        Backend("i-2", "ff02::1", 80),
        Backend("i-2", "fd00::2", 0),
        Backend("i 2\n", "fd00::2", 80),
        Backend("", "fd00::2", 80),
    ],
)
def test_an_unusable_backend_is_left_out_and_its_route_stands(backend: Backend) -> None:
    reading = read(tls("a", "a.example", backend, B))
    assert [server.instance_id for server in reading.table.routes[0].servers] == ["i-1"]
    assert codes(reading) == {"a": "backend_invalid"}
    assert reading.refused == {}


def test_two_new_claimants_of_a_name_are_both_refused() -> None:
    reading = read(tls("a", "x.example", B), tls("b", "X.example", B), tls("c", "c.example", B))
    assert ids(reading) == ["c"]
    assert codes(reading) == {"a": "hostname_ambiguous", "b": "hostname_ambiguous"}
    assert "a" in reading.refused["b"].why


def test_who_held_a_name_keeps_it_against_a_later_claimant() -> None:
    held = read(tls("z", "x.example", B)).table
    reading = read(tls("a", "x.example", B), tls("z", "x.example"), held=held)
    assert (ids(reading), codes(reading)) == (["z"], {"a": "hostname_ambiguous"})


def test_who_held_another_name_has_no_claim() -> None:
    held = read(tls("z", "other.example", B)).table
    assert ids(read(tls("a", "x.example", B), tls("z", "x.example"), held=held)) == []


def test_the_same_name_on_two_ports_is_two_routes() -> None:
    assert ids(read(tls("a", "x.example", B), tls("b", "x.example", B, port=8443))) == ["a", "b"]


def test_a_raw_port_is_not_shared() -> None:
    reading = read(raw("r1", 5432, B), raw("r2", 5432, B), raw("r3", 5433, B))
    assert (ids(reading), codes(reading)) == (["r3"], {"r1": "port_ambiguous", "r2": "port_ambiguous"})


def test_raw_and_tls_on_one_port_are_refused_unless_one_side_held_it() -> None:
    both = (raw("r", 443, B), tls("a", "a.example", B), tls("b", "b.example", B))
    assert ids(read(*both)) == []
    assert ids(read(*both, held=read(tls("a", "a.example", B)).table)) == ["a", "b"]
    assert ids(read(*both, held=read(raw("r", 443, B)).table)) == ["r"]


def test_one_route_in_two_forms_is_refused_and_in_one_form_is_one() -> None:
    assert codes(read(tls("a", "a.example", B), tls("a", "b.example", B))) == {"a": "route_repeated"}
    assert ids(read(tls("a", "a.example", B), tls("a", "A.example", B))) == ["a"]


def test_too_many_backends_are_cut_and_told() -> None:
    backends = tuple(Backend(f"i-{n:03d}", f"fd00::{n:x}", 80) for n in range(1, 300))
    reading = read(tls("a", "a.example", *backends))
    assert len(reading.table.routes[0].servers) == 256
    assert {finding.code for finding in reading.findings} == {"too_many_backends"}


def test_routes_of_a_blocked_port_are_taken_out_and_told() -> None:
    reading = without_ports(read(raw("r", 5432, B), tls("a", "a.example", B)), {5432: "taken"})
    assert ids(reading) == ["a"]
    assert reading.refused["r"].code == "port_unavailable"


@pytest.mark.parametrize(
    ("address", "port", "mode"), [("fd00::2", 8443, "off"), ("fd00::1", 8444, "off"), ("fd00::1", 8443, "v2")]
)
def test_a_changed_server_has_another_name(address: str, port: int, mode: Literal["off", "v2"]) -> None:
    before = read(tls("a", "a.example", B)).table
    after = read(PlannedRoute("a", "a.example", 443, "tls_passthrough", mode, (Backend("i-1", address, port),))).table
    assert before.served != after.served
