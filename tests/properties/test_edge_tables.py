"""Random sequences of plans: after each apply the dataplane equals the table, and no guess is ever made.

The fake runs many short programs; the real haproxy runs a few, with restarts of the edge and of haproxy between."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.core.config import Options, map_entries, render, settings_digest
from edge.core.converge import Observed, ObservedServer, ServerRef, Wanted, converge
from edge.core.layout import Layout, place
from edge.core.reading import read_plan
from edge.core.table import EMPTY, RouteTable
from edge.dataplane.contract import Dataplane
from edge.dataplane.fake import FakeDataplane, FakeDisk
from kit.errors import Transient
from kit.wire import Backend, PlannedRoute, RoutePlan
from tests.integration.edge.parts import free_port, haproxy, master_pid, short_folder

_PORTS = [free_port() for _ in range(3)]
_backends = st.builds(
    Backend,
    instance_id=st.sampled_from(["i-1", "i-2", "i-3", "i bad"]),
    address=st.sampled_from(["127.0.0.1", "::1", "nowhere"]),
    port=st.sampled_from([1, 2]),
)
_routes = st.builds(
    PlannedRoute,
    route_id=st.sampled_from(["r1", "r2", "r3", "r4", "r5"]),
    hostname=st.sampled_from(["a.example", "B.example.", "c.example", "*.example", "c.example"]),
    listen_port=st.sampled_from(_PORTS[:2] * 3 + _PORTS[2:]),
    protocol=st.sampled_from(["tls_passthrough", "tls_passthrough", "tls_passthrough", "tcp_raw"]),
    proxy_protocol=st.sampled_from(["off", "v2"]),
    backends=st.lists(_backends, max_size=3).map(tuple),
)
_plans = st.lists(st.lists(_routes, max_size=6, unique_by=lambda r: r.route_id), min_size=1, max_size=6)


def _plan(routes: list[PlannedRoute]) -> RoutePlan:
    return RoutePlan("edge-a", "log", 1, tuple(routes))


@given(_plans)
@settings(max_examples=150, deadline=None)
def test_a_reading_has_no_ambiguity_and_each_route_is_served_or_refused(plans: list[list[PlannedRoute]]) -> None:
    held = EMPTY
    for routes in plans:
        reading = read_plan(_plan(routes), held)
        table = reading.table
        assert max(Counter(route.key for route in table.routes).values(), default=1) == 1
        for port, protocol in table.listeners.items():
            on_port = [route for route in table.routes if route.listen_port == port]
            assert all(route.protocol == protocol for route in on_port)
            assert protocol == "tls_passthrough" or len(on_port) == 1
        served, refused = {route.route_id for route in table.routes}, set(reading.refused)
        assert served | refused == {route.route_id for route in routes}
        assert not served & refused
        assert read_plan(_plan(list(reversed(routes))), held) == reading, "the order of a plan says nothing"
        assert read_plan(_plan(routes), table).table == table, "who won keeps winning, and nobody else wins"
        held = table


class _Model:
    """haproxy as far as actions go: what is observed after they were done."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.observed = Observed("", {}, 0)

    def load(self, wanted: Wanted) -> None:
        servers = tuple(
            ObservedServer(ServerRef(wanted.layout.placed[route.route_id], server.name), server.endpoint, True)
            for route in wanted.table.routes
            for server in route.servers
        )
        self.observed = Observed(
            settings_digest(self.options),
            wanted.table.listeners,
            wanted.layout.slots,
            servers,
            map_entries(wanted.table, wanted.layout),
        )

    def perform(self, wanted: Wanted) -> None:
        actions = converge(wanted, self.observed)
        if actions.reload:
            self.load(wanted)
            return
        servers = {server.ref: server for server in self.observed.servers}
        for ref, server in actions.add:
            assert ref not in servers
            servers[ref] = ObservedServer(ref, server.endpoint, True)
        for ref in actions.enable:
            servers[ref] = ObservedServer(ref, servers[ref].endpoint, True)
        for ref in actions.drain:
            servers[ref] = ObservedServer(ref, servers[ref].endpoint, False)
        entries = self.observed.entries if actions.set_entries is None else actions.set_entries
        self.observed = Observed(
            self.observed.settings, self.observed.listeners, self.observed.slots, tuple(servers.values()), entries
        )


@given(_plans)
@settings(max_examples=150, deadline=None)
def test_actions_lead_to_the_table_and_then_to_nothing(plans: list[list[PlannedRoute]]) -> None:
    options = Options(("::",), "/run/worker.sock")
    model, layout = _Model(options), Layout(2)
    for routes in plans:
        table = read_plan(_plan(routes)).table
        layout = place(layout, table, model.observed.busy)
        wanted = Wanted(table, layout, options)
        model.perform(wanted)
        assert model.observed.served == table.served
        assert converge(wanted, model.observed).nothing
        assert place(layout, table, model.observed.busy) == layout
        assert render(table, layout, options) == render(RouteTable(table.routes), layout, options)


async def _run(dataplane: Dataplane, plans: list[list[PlannedRoute]]) -> None:
    held = EMPTY
    for generation, routes in enumerate(plans, start=1):
        held = read_plan(_plan(routes), held).table
        await dataplane.apply(held, generation)
        await _assert_equals(dataplane, held)
        await dataplane.tend()
        await _assert_equals(dataplane, held)


async def _assert_equals(dataplane: Dataplane, table: RouteTable) -> None:
    serving = await dataplane.observe()
    assert serving is not None
    assert (serving.listeners, serving.served) == (table.listeners, table.served)
    wanted = {name for names in table.served.values() for name in names}
    assert not serving.draining & wanted


@given(_plans)
@settings(max_examples=100, deadline=None)
def test_the_fake_equals_the_table(plans: list[list[PlannedRoute]]) -> None:
    asyncio.run(_run(FakeDataplane(FakeDisk()), plans))


@given(st.lists(_plans, min_size=1, max_size=3), st.sampled_from(["edge", "haproxy"]))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_haproxy_equals_the_table(phases: list[list[list[PlannedRoute]]], restart: str) -> None:
    """Between the phases the edge program, or haproxy, is restarted."""

    async def program() -> None:
        with short_folder() as folder:
            dataplane = haproxy(folder)
            try:
                for phase in phases:
                    await _run(dataplane, phase)
                    last = await dataplane.observe()
                    if restart == "haproxy":
                        os.kill(await master_pid(folder), signal.SIGKILL)
                        await _revive(dataplane)
                    else:
                        dataplane = haproxy(folder)
                        await dataplane.tend()
                    now = await dataplane.observe()
                    assert last is not None and now is not None
                    assert (now.listeners, now.served) == (last.listeners, last.served)
            finally:
                await dataplane.stop()

    asyncio.run(program())


async def _revive(dataplane: Dataplane) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await dataplane.tend()
                if await dataplane.observe() is not None:
                    return
            except Transient:
                pass
            await asyncio.sleep(0.1)
