"""Following a plan over real HTTP: every change leads to a newer plan, whatever the connection does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kit.backoff import Backoff
from kit.control_plane import ControlPlane
from kit.errors import Refusal, Transient
from kit.follow import follow_plan
from kit.plan_delta import PLAN_BASE
from kit.stream_course import Pace
from reconciler.server.sent_plans import SentPlans

DEADLINE_S = 10.0


@dataclass
class Controller:
    """A small controller: one number that grows, a plan that shows it, a stream that tells of it."""

    head: int = 1
    log_id: str = "log1"
    cut_after_lines: int = 1000
    buffers: bool = False  # a proxy in between that passes nothing on until the answer ends
    mute: bool = False  # one that takes the request and says nothing, for as long as anybody waits
    busy: int = 0  # how often it says "come back in a second"
    loses_a_route: bool = False  # out of the next delta
    deltas: int = 0
    wholes: int = 0
    sent: SentPlans = field(default_factory=SentPlans)
    polls: int = 0
    streams: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def grow(self) -> int:
        self.head += 1
        self.changed.set()
        return self.head

    async def plan(self, request: web.Request) -> web.Response:
        """A plan of one route for each number, sent as a controller does it."""
        if self.busy:
            self.busy -= 1
            return web.json_response({"code": "unavailable"}, status=503, headers={"Retry-After": "1"})
        routes = [{"route_id": f"r-{number:04d}"} for number in range(self.head)]
        document = {"log_id": self.log_id, "generation": self.head, "routes": routes}
        answer = dict(self.sent.answer("edge", document, request.headers.get(PLAN_BASE, "")))
        self.deltas += "base" in answer
        self.wholes += "base" not in answer
        if self.loses_a_route and "base" in answer:
            self.loses_a_route = False
            answer["changed"] = {}
        return web.json_response(answer)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        log_id, _, number = request.query["cursor"].partition(".")
        if log_id != self.log_id or int(number) > self.head:
            return web.json_response({"detail": "foreign cursor", "code": "cursor_invalid"}, status=410)
        polling = "wait" in request.query
        self.polls += polling
        self.streams += not polling
        if self.mute and not polling:
            await asyncio.sleep(DEADLINE_S)
        if self.buffers and not polling:
            await asyncio.sleep(0.05)
            raise web.HTTPBadGateway
        answer = web.StreamResponse()
        await answer.prepare(request)
        await self._tell(answer, int(number), polling=polling)
        return answer

    async def _tell(self, answer: web.StreamResponse, position: int, *, polling: bool) -> None:
        lines = 0
        while lines < self.cut_after_lines:
            while position == self.head:
                self.changed.clear()
                await asyncio.wait_for(self.changed.wait(), DEADLINE_S)
            position += 1
            lines += 1
            cursor = f"{self.log_id}.{position}"
            line = {"type": "change", "cursor": cursor, "event": {"event_id": position}}
            await answer.write(json.dumps(line).encode() + b"\n")
            if polling:
                return


@pytest.fixture
async def controller() -> AsyncIterator[tuple[Controller, ControlPlane]]:
    controller = Controller()
    app = web.Application()
    app.router.add_get("/v1/plan", controller.plan)
    app.router.add_get("/v1/stream", controller.stream)
    async with TestServer(app) as server, ControlPlane(str(server.make_url("/")), "t") as control_plane:
        yield controller, control_plane


@dataclass
class Follower:
    control_plane: ControlPlane
    seen: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    plan: dict[str, Any] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Follower:
        self._task = asyncio.create_task(
            follow_plan(
                self.control_plane,
                "/v1/plan",
                dict,
                self._take,
                self.stop,
                backoff=Backoff(0.01, 0.05),
                pace=Pace(hello_s=0.3, idle_s=5.0, reconnect_s=0.05, backoff=Backoff(0.01, 0.05)),
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await asyncio.wait_for(self._task, DEADLINE_S)

    async def _take(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.seen.put_nowait(plan["generation"])

    async def until(self, generation: int) -> None:
        while await asyncio.wait_for(self.seen.get(), DEADLINE_S) < generation:
            pass


async def test_each_change_leads_to_a_newer_plan(controller: tuple[Controller, ControlPlane]) -> None:
    server, control_plane = controller
    async with Follower(control_plane) as follower:
        await follower.until(1)
        for _ in range(5):
            await follower.until(server.grow())
    assert server.streams == 1


async def test_a_stream_that_breaks_is_taken_up_again(controller: tuple[Controller, ControlPlane]) -> None:
    server, control_plane = controller
    server.cut_after_lines = 1
    async with Follower(control_plane) as follower:
        await follower.until(1)
        for _ in range(5):
            await follower.until(server.grow())
    assert server.streams >= 5


async def test_long_polling_takes_over_when_streams_give_nothing(controller: tuple[Controller, ControlPlane]) -> None:
    server, control_plane = controller
    server.buffers = True
    async with Follower(control_plane) as follower:
        await follower.until(1)
        for _ in range(3):
            await follower.until(server.grow())
    assert server.polls >= 1


async def test_a_stream_that_says_nothing_is_left_for_the_long_poll_at_once(
    controller: tuple[Controller, ControlPlane],
) -> None:
    """As behind a proxy that keeps everything until the answer ends."""
    server, control_plane = controller
    server.mute = True
    async with Follower(control_plane) as follower:
        await follower.until(1)
        for _ in range(3):
            await follower.until(server.grow())
    assert (server.streams, server.polls >= 3) == (1, True)


async def test_only_what_changed_is_sent(controller: tuple[Controller, ControlPlane]) -> None:
    server, control_plane = controller
    async with Follower(control_plane) as follower:
        await follower.until(1)
        for _ in range(5):
            await follower.until(server.grow())
            assert [route["route_id"] for route in follower.plan["routes"]] == [
                f"r-{number:04d}" for number in range(server.head)
            ]
    assert server.wholes == 1
    assert server.deltas >= 5


async def test_a_wrong_delta_is_noticed_and_repaired(
    controller: tuple[Controller, ControlPlane], caplog: pytest.LogCaptureFixture
) -> None:
    server, control_plane = controller
    async with Follower(control_plane) as follower:
        await follower.until(1)
        server.loses_a_route = True
        await follower.until(server.grow())
        assert not server.loses_a_route, "it was sent"
        assert len(follower.plan["routes"]) == server.head
        await follower.until(server.grow())
        assert len(follower.plan["routes"]) == server.head
    assert "went apart" in caplog.text
    assert server.wholes == 2


async def test_a_controller_that_restarted_sends_the_whole(controller: tuple[Controller, ControlPlane]) -> None:
    server, control_plane = controller
    async with Follower(control_plane) as follower:
        await follower.until(1)
        server.sent = SentPlans()
        await follower.until(server.grow())
        assert len(follower.plan["routes"]) == server.head
    assert server.wholes == 2


async def test_a_controller_that_says_when_to_come_back_is_not_asked_before(
    controller: tuple[Controller, ControlPlane],
) -> None:
    server, control_plane = controller
    server.busy = 1
    started = asyncio.get_running_loop().time()
    async with Follower(control_plane) as follower:
        await follower.until(1)
    assert asyncio.get_running_loop().time() - started >= 1
    assert not server.busy


async def test_a_log_that_was_restored_starts_again_from_a_plan(controller: tuple[Controller, ControlPlane]) -> None:
    server, control_plane = controller
    server.cut_after_lines = 1
    async with Follower(control_plane) as follower:
        await follower.until(1)
        server.log_id, server.head = "log2", 0
        server.changed.set()
        await follower.until(0)
        await follower.until(server.grow())


async def test_problems_become_refusals_or_transients(controller: tuple[Controller, ControlPlane]) -> None:
    _, control_plane = controller
    with pytest.raises(Refusal, match="foreign cursor") as refused:
        async with control_plane.lines("/v1/stream", idle_timeout_s=1, cursor="other.1"):
            pass
    assert refused.value.code == "cursor_invalid"
    async with ControlPlane("http://127.0.0.1:9", "") as nobody:
        with pytest.raises(Transient, match="cannot be reached"):
            await nobody.get_json("/v1/plan")
