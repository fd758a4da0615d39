"""What an edge tells: what changed, in parts, not too often, and all of it now and then. Time is moved by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from edge.report import BATCH_S, PART_ROUTES_MAX, WHOLE_EVERY_S, Reporter
from kit.errors import Refusal, Transient
from kit.pacing import BURST, EVERY_S
from kit.wire import EdgeReport, RouteReport
from tests.hand_clock import HandClock


class Controller:
    def __init__(self) -> None:
        self.got: list[list[str]] = []
        self.known: dict[str, Any] = {}
        self.down = False
        self.poison: set[str] = set()

    async def post(self, document: Any) -> None:
        if self.down:
            raise Transient("POST", "away")
        names = [each["route_id"] for each in document["routes"]]
        if self.poison & set(names):
            raise Refusal("POST", "it cannot be read", code="document_invalid")
        self.got.append(names)
        self.known |= {each["route_id"]: each for each in document["routes"]}


@asynccontextmanager
async def running(controller: Controller) -> AsyncIterator[tuple[Reporter, HandClock]]:
    clock = HandClock()
    reporter = Reporter(controller.post, clock, rng=random.Random(1))
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter, clock
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def route(name: str, backends: int = 1, status: Literal["active", "failed"] = "active") -> RouteReport:
    return RouteReport(name, status, backends)


def report(generation: int, *routes: RouteReport) -> EdgeReport:
    return EdgeReport("edge-a", generation, "", routes)


async def test_only_what_changed_is_told_and_all_of_it_now_and_then() -> None:
    controller = Controller()
    many = [route(f"r-{number}") for number in range(5)]
    async with running(controller) as (reporter, clock):
        reporter.offer("log-1", report(1, *many))
        await clock.advance(BATCH_S)
        reporter.offer("log-1", report(1, *many))
        await clock.advance(BATCH_S)
        assert controller.got == [["r-0", "r-1", "r-2", "r-3", "r-4"]]
        reporter.offer("log-1", report(2, route("r-0", 7), *many[1:]))
        await clock.advance(BATCH_S)
        reporter.offer("log-1", report(3, route("r-0", 7), *many[1:]))
        await clock.advance(BATCH_S)
        assert controller.got[1:] == [["r-0"], []], "a generation alone is told, without the routes"
        await clock.advance(WHOLE_EVERY_S)
        reporter.offer("log-1", report(4, route("r-0", 8), *many[1:]))
        await clock.advance(BATCH_S)
        assert controller.got[-1] == ["r-0", "r-1", "r-2", "r-3", "r-4"]
        reporter.offer("log-2", report(4, route("r-0", 8), *many[1:]))
        await clock.advance(BATCH_S)
        assert len(controller.got) == 5 and len(controller.got[-1]) == 5, "another log was told nothing yet"


async def test_an_edge_with_more_routes_than_one_report_may_have_tells_them_in_parts() -> None:
    controller = Controller()
    many = [route(f"r-{number:05d}") for number in range(3 * PART_ROUTES_MAX + 1)]
    async with running(controller) as (reporter, clock):
        reporter.offer("log-1", report(1, *many))
        await clock.advance(BATCH_S)
    assert [len(names) for names in controller.got] == [PART_ROUTES_MAX] * 3 + [1]
    assert len(controller.known) == len(many)


async def test_changes_while_the_controller_is_away_are_one_report_of_the_newest() -> None:
    controller = Controller()
    controller.down = True
    async with running(controller) as (reporter, clock):
        for generation in range(1, 500):
            reporter.offer("log-1", report(generation, route("r", generation)))
            await clock.advance(0.01)
        controller.down = False
        await clock.advance(60)
        assert controller.got == [["r"]]
        assert controller.known["r"]["backends"] == 499


async def test_a_flapping_route_is_told_of_a_bounded_number_of_times_and_rightly_in_the_end() -> None:
    controller, seconds = Controller(), 30
    async with running(controller) as (reporter, clock):
        for number in range(seconds * 100):
            calm = route("calm", number // 1000)
            reporter.offer("log-1", report(number, route("flaps", 1, "failed" if number % 2 else "active"), calm))
            await clock.advance(0.01)
        told = [names for names in controller.got if "flaps" in names]
        assert len(told) <= BURST + seconds / EVERY_S + 1
        assert controller.known["calm"]["backends"] == 2
        await clock.advance(EVERY_S + BATCH_S)
        assert controller.known["flaps"]["status"] == "failed"
        sent = len(controller.got)
        await clock.advance(300)
        assert len(controller.got) == sent, "and then it is quiet"


async def test_a_route_that_cannot_be_read_holds_back_no_other() -> None:
    controller = Controller()
    controller.poison = {"r-3"}
    async with running(controller) as (reporter, clock):
        reporter.offer("log-1", report(1, *(route(f"r-{number}") for number in range(8))))
        await clock.advance(60)
    assert set(controller.known) == {f"r-{number}" for number in range(8)} - {"r-3"}
    assert len(controller.got) < 8
