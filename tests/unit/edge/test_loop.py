"""The edge's loop over the fake dataplane: plans in, reports out, whatever fails."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.core.reading import read_plan
from edge.dataplane.fake import FakeDataplane, FakeDisk
from edge.ledger import Ledger
from edge.loop import Loop
from edge.report import Reporter
from kit.backoff import Backoff
from kit.clock import SystemClock
from kit.codec import from_json
from kit.errors import Refusal, Transient
from kit.wire import Backend, EdgeReport, PlannedRoute, RoutePlan, RouteReport

FAST = Backoff(0.01, 0.02)


class QuickClock(SystemClock):
    """Waits of the loop pass a hundred times faster."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


def route(name: str, *instances: str, port: int = 443) -> PlannedRoute:
    backends = tuple(Backend(instance, "fd00::1", 80) for instance in instances)
    return PlannedRoute(name, f"{name}.example", port, "tls_passthrough", "off", backends)


def plan(generation: int, *routes: PlannedRoute, log_id: str = "log-1") -> RoutePlan:
    return RoutePlan("edge-a", log_id, generation, routes)


class World:
    def __init__(self, state: Path) -> None:
        self.state = state
        self.disk = FakeDisk()
        self.reports: list[EdgeReport] = []
        """Each with all that the controller knows by then: what is sent is what changed."""
        self.known: dict[str, RouteReport] = {}
        self.post_failures = 0
        self.loop: Loop

    async def post(self, document: Any) -> None:
        if self.post_failures:
            self.post_failures -= 1
            raise Transient("POST", "planted", code="controller_unreachable")
        report = from_json(EdgeReport, document)
        self.known |= {each.route_id: each for each in report.routes}
        self.reports.append(replace(report, routes=tuple(self.known[key] for key in sorted(self.known))))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Loop]:
        clock, rng = QuickClock(), random.Random(1)
        ledger = Ledger(self.state, "edge-a")
        ledger.load()
        reporter = Reporter(self.post, clock, backoff=FAST, rng=rng)
        self.loop = Loop(FakeDataplane(self.disk), ledger, reporter, clock, backoff=FAST, rng=rng)
        stop = asyncio.Event()
        reports = asyncio.create_task(reporter.run())
        running = asyncio.create_task(self.loop.run(stop))
        try:
            yield self.loop
        finally:
            stop.set()
            await running
            reports.cancel()

    def served(self) -> dict[str, int]:
        applied = self.disk.applied
        return {} if applied is None else {key: len(names) for key, names in applied.served.items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_plan_is_applied_and_reported(world: World) -> None:
    async with world.running() as loop:
        await loop.on_plan(plan(3, route("a", "i-1", "i-2"), route("b")))
        await until(lambda: bool(world.reports))
    assert world.served() == {"443/a.example": 2, "443/b.example": 0}
    report = world.reports[-1]
    assert (report.edge_id, report.applied_generation) == ("edge-a", 3)
    assert [(r.route_id, r.status, r.backends) for r in report.routes] == [("a", "active", 2), ("b", "active", 0)]
    assert report.observed_at.endswith("Z")


async def test_an_older_plan_is_refused_and_one_of_another_log_is_not(world: World) -> None:
    async with world.running() as loop:
        await loop.on_plan(plan(7, route("a", "i-1")))
        await until(lambda: bool(world.reports))
        with pytest.raises(Refusal, match="generation 7"):
            await loop.on_plan(plan(6, route("b", "i-1")))
        with pytest.raises(Refusal, match="edge-b"):
            await loop.on_plan(RoutePlan("edge-b", "log-1", 9))
        assert world.served() == {"443/a.example": 1}
        await loop.on_plan(plan(2, route("c", "i-1"), log_id="log-2"))
        await until(lambda: world.served() == {"443/c.example": 1})


async def test_an_older_plan_is_refused_after_a_restart_too(world: World) -> None:
    async with world.running() as loop:
        await loop.on_plan(plan(7, route("a", "i-1")))
        await until(lambda: bool(world.reports))
    async with world.running() as loop:
        with pytest.raises(Refusal, match="generation 7"):
            await loop.on_plan(plan(6))


async def test_the_same_plan_again_is_reported_once(world: World) -> None:
    async with world.running() as loop:
        for _ in range(3):
            await loop.on_plan(plan(1, route("a", "i-1")))
            await until(lambda: bool(world.reports))
        await asyncio.sleep(0.05)
    assert len(world.reports) == 1


async def test_without_a_controller_the_last_plan_is_applied_at_start(world: World) -> None:
    async with world.running() as loop:
        await loop.on_plan(plan(1, route("a", "i-1")))
        await until(lambda: bool(world.served()))
    world.disk = FakeDisk()  # the host was rebooted
    async with world.running():
        await until(lambda: world.served() == {"443/a.example": 1})


async def test_a_refused_route_stops_only_itself_and_says_why(world: World) -> None:
    async with world.running() as loop:
        await loop.on_plan(plan(1, route("a", "i-1")))
        await until(lambda: bool(world.reports))
        thief = PlannedRoute("thief", "A.example.", 443, "tls_passthrough", "off", (Backend("i-9", "fd00::9", 80),))
        await loop.on_plan(plan(2, thief, route("a", "i-1", "i-2"), route("b", "i-1")))
        await until(lambda: world.reports[-1].applied_generation == 2)
    told = {report.route_id: report for report in world.reports[-1].routes}
    assert {name: report.status for name, report in told.items()} == {"a": "active", "b": "active", "thief": "failed"}
    assert "also claimed by a" in told["thief"].reason_detail
    assert world.served()["443/a.example"] == 2


async def test_who_holds_a_name_keeps_it_across_a_restart(world: World) -> None:
    async with world.running() as loop:
        await loop.on_plan(plan(1, route("z", "i-1")))
        await until(lambda: bool(world.reports))
    claims = plan(2, PlannedRoute("a", "z.example", 443, "tls_passthrough", "off"), route("z", "i-1"))
    for _ in range(2):
        async with world.running() as loop:
            await loop.on_plan(claims)
            await until(lambda: world.reports[-1].applied_generation == 2)
        assert {r.route_id: r.status for r in world.reports[-1].routes} == {"a": "failed", "z": "active"}


async def test_an_apply_that_fails_is_tried_again_and_told(world: World) -> None:
    world.disk.failures = 3
    async with world.running() as loop:
        await loop.on_plan(plan(1, route("a", "i-1")))
        await until(lambda: bool(world.reports) and world.reports[-1].applied_generation == 1)
    assert [r.status for report in world.reports for r in report.routes][-1] == "active"


async def test_a_report_that_is_not_taken_is_sent_again(world: World) -> None:
    world.post_failures = 4
    async with world.running() as loop:
        await loop.on_plan(plan(1, route("a", "i-1")))
        await until(lambda: bool(world.reports))
    assert world.reports[-1].applied_generation == 1


async def test_a_taken_port_fails_its_routes_until_it_is_free(world: World) -> None:
    world.disk.taken_ports[8443] = "taken"
    async with world.running() as loop:
        await loop.on_plan(plan(1, route("a", "i-1"), route("b", "i-1", port=8443)))
        await until(lambda: bool(world.reports))
        assert {r.route_id: (r.status, r.reason_detail) for r in world.reports[-1].routes} == {
            "a": ("active", ""),
            "b": ("failed", "taken"),
        }
        world.disk.taken_ports.clear()
        await until(lambda: world.reports[-1].routes[1].status == "active")


async def test_a_dead_dataplane_is_revived(world: World) -> None:
    async with world.running() as loop:
        await loop.on_plan(plan(1, route("a", "i-1")))
        await until(lambda: bool(world.reports))
        world.disk.running = False
        await until(lambda: world.disk.running)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"plan": {"edge_id": "edge-a"}}', "\x00"])
async def test_a_torn_ledger_is_put_aside_and_the_dataplane_left_alone(world: World, content: str) -> None:
    async with world.running() as loop:
        await loop.on_plan(plan(1, route("a", "i-1")))
        await until(lambda: bool(world.reports))
    (world.state / "plan.json").write_text(content)
    async with world.running() as loop:
        await asyncio.sleep(0.03)
        assert world.served() == {"443/a.example": 1}
        await loop.on_plan(plan(2, route("b", "i-1")))
        await until(lambda: world.served() == {"443/b.example": 1})
    assert (world.state / "plan.unreadable").read_text() == content


def test_a_state_folder_of_another_edge_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path, "edge-b").accept(RoutePlan("edge-b", "log", 1), read_plan(RoutePlan("edge-b", "log", 1)).table)
    with pytest.raises(Refusal, match="edge-b"):
        Ledger(tmp_path, "edge-a").load()


def test_the_ledger_holds_the_plan_as_it_came(tmp_path: Path) -> None:
    given = plan(4, route("a", "i-1"))
    ledger = Ledger(tmp_path, "edge-a")
    ledger.accept(given, read_plan(given).table)
    assert from_json(RoutePlan, json.loads((tmp_path / "plan.json").read_text())["plan"]) == given
