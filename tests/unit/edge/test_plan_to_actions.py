"""Layout, configuration text and actions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.core.config import Options, bind_address, map_entries, render, settings_digest
from edge.core.converge import Observed, ObservedServer, ServerRef, Wanted, converge, gone_from_plan
from edge.core.layout import Layout, place
from edge.core.table import Route, RouteTable, Server, table_of
from kit.errors import Refusal

OPTIONS = Options(("::",), "/run/edge/worker.sock")
A, B = Server("i-a", "fd00::a", 80, False), Server("i-b", "10.0.0.2", 80, True)


def route(name: str, *servers: Server, port: int = 443) -> Route:
    return Route(name, f"{name}.example", port, "tls_passthrough", servers)


def wanted(*routes: Route, previous: Layout | None = None) -> Wanted:
    table = table_of(routes)
    return Wanted(table, place(previous or Layout(4), table), OPTIONS)


def settled(of: Wanted) -> Observed:
    """What is observed when `of` is in force."""
    servers = tuple(
        ObservedServer(ServerRef(of.layout.placed[r.route_id], s.name), s.endpoint, True)
        for r in of.table.routes
        for s in r.servers
    )
    entries = map_entries(of.table, of.layout)
    return Observed(settings_digest(of.options), of.table.listeners, of.layout.slots, servers, entries)


def test_nothing_is_done_when_all_is_as_wanted() -> None:
    one = wanted(route("a", A), route("b", B))
    assert converge(one, settled(one)).nothing
    assert settled(one).served == one.table.served


def test_a_changed_backend_is_added_and_the_old_one_drained() -> None:
    before, after = wanted(route("a", A)), wanted(route("a", B))
    actions = converge(after, settled(before))
    assert actions.add == ((ServerRef(0, B.name), B),)
    assert actions.drain == (ServerRef(0, A.name),)
    assert (actions.reload, actions.set_entries, actions.enable) == ((), None, ())
    assert gone_from_plan(after, settled(before)) == {ServerRef(0, A.name)}


def test_a_draining_server_that_is_wanted_again_is_enabled() -> None:
    one = wanted(route("a", A))
    seen = settled(one)
    seen = replace(seen, servers=(replace(seen.servers[0], ready=False),))
    assert converge(one, seen).enable == (ServerRef(0, A.name),)


def test_a_draining_server_that_stays_away_is_left_to_drain() -> None:
    seen = replace(settled(wanted(route("a", A))), servers=(ObservedServer(ServerRef(0, A.name), A.endpoint, False),))
    actions = converge(wanted(route("a")), seen)
    assert actions.nothing


def test_a_new_route_on_a_known_port_needs_no_reload() -> None:
    before = wanted(route("a", A))
    after = wanted(route("a", A), route("b", B), previous=before.layout)
    actions = converge(after, settled(before))
    assert actions.reload == ()
    assert actions.set_entries == {"443/a.example": "slot-0", "443/b.example": "slot-1"}


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (wanted(route("a", A), route("b", B, port=8443)), "listen on port 8443"),
        (wanted(), "stop listening on port 443"),
        (wanted(*(route(f"r{n}", A) for n in range(9))), "grow from 4 to 16 slots"),
        (replace(wanted(route("a", A)), options=replace(OPTIONS, inspect_delay_ms=500)), "the options changed"),
        (wanted(Route("a", "", 443, "tcp_raw", (A,))), "listen on port 443 (tcp_raw)"),
    ],
)
def test_a_reload_names_its_reason(after: Wanted, reason: str) -> None:
    assert any(reason in why for why in converge(after, settled(wanted(route("a", A)))).reload)


def test_a_route_keeps_its_slot_and_a_busy_slot_is_not_given_away() -> None:
    first = place(Layout(4), table_of([route("b"), route("c")]))
    assert first.placed == {"b": 0, "c": 1}
    second = place(first, table_of([route("a"), route("c")]), busy=frozenset({0, 1}))
    assert second.placed == {"a": 2, "c": 1}
    assert place(second, table_of([route("a"), route("c")])) == second


def test_slots_double_and_never_shrink() -> None:
    many = table_of([route(f"r{n:03d}") for n in range(70)])
    grown = place(Layout(), many)
    assert grown.slots == 128
    assert place(grown, RouteTable()).slots == 128
    with pytest.raises(Refusal, match="bound"):
        place(Layout(), RouteTable(), busy=frozenset(range(70_000)))


def test_equal_tables_give_equal_bytes_and_the_layout_shows_in_them() -> None:
    one, other = wanted(route("a", A), route("b", B)), wanted(route("b", B), route("a", A))
    first = render(one.table, one.layout, OPTIONS)
    assert first == render(other.table, other.layout, OPTIONS)
    assert first.map == b"443/a.example slot-0\n443/b.example slot-1\n"
    assert f"server {B.name} 10.0.0.2:80 check".encode() in first.config
    assert b"send-proxy-v2 check-send-proxy" in first.config
    assert first.config.count(b"\nbackend slot-") == 4


def test_options_are_part_of_the_digest() -> None:
    assert settings_digest(OPTIONS) != settings_digest(replace(OPTIONS, hard_stop_s=1))


@pytest.mark.parametrize(
    ("address", "text"), [("::", "[::]:443 v4v6"), ("fd00::1", "[fd00::1]:443"), ("0.0.0.0", "0.0.0.0:443")]
)
def test_bind_addresses(address: str, text: str) -> None:
    assert bind_address(address, 443) == text
