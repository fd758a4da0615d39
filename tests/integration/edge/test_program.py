"""trueup-edge as a program, against a controller that speaks only the edge's part of the HTTP contract."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from kit.codec import from_json, to_json
from kit.wire import Backend as PlannedBackend
from kit.wire import EdgeReport, PlannedRoute, RoutePlan, RouteReport
from tests.integration.edge.conftest import StartBackend
from tests.integration.edge.parts import Backend, connected, free_port, until, who_answers, worker_pid

TOKEN = "edge:edge-a:00"


class Controller:
    """Serves `plan`, wakes the stream when it changes, keeps the reports."""

    def __init__(self) -> None:
        self.plan = RoutePlan("edge-a", "log-1", 1)
        self.reports: list[EdgeReport] = []
        """Each with all that is known by then: what is sent is what changed."""
        self.known: dict[str, RouteReport] = {}
        self.port = free_port()
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/edges/edge-a/plan", self._plan)
        app.router.add_get("/v1/stream", self._stream)
        app.router.add_post("/v1/edges/edge-a/reports", self._report)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def publish(self, *routes: PlannedRoute) -> None:
        async with self._changed:
            self.plan = RoutePlan("edge-a", "log-1", self.plan.generation + 1, routes)
            self._changed.notify_all()

    async def reported(self, generation: int) -> EdgeReport:
        async def there() -> bool:
            return bool(self.reports) and self.reports[-1].applied_generation >= generation

        await until(there, f"a report of generation {generation}")
        return self.reports[-1]

    async def _plan(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        return web.json_response(to_json(self.plan))

    async def _report(self, request: web.Request) -> web.Response:
        report = from_json(EdgeReport, await request.json())
        self.known |= {each.route_id: each for each in report.routes}
        self.reports.append(replace(report, routes=tuple(self.known[key] for key in sorted(self.known))))
        return web.json_response({})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        seen = int(request.query["cursor"].rpartition(".")[2])
        await self._line(answer, {"type": "hello", "log_id": "log-1", "cursor": f"log-1.{seen}"})
        while True:
            async with self._changed:
                while self.plan.generation <= seen:
                    await self._changed.wait()
                seen = self.plan.generation
            await self._line(answer, {"type": "change", "cursor": f"log-1.{seen}", "event": {"event_id": seen}})

    async def _line(self, answer: web.StreamResponse, document: object) -> None:
        await answer.write(json.dumps(document).encode() + b"\n")


@pytest.fixture
async def controller() -> AsyncIterator[Controller]:
    made = Controller()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def state(folder: Path) -> AsyncIterator[Path]:
    yield folder
    assert await _stop_all(folder) == 0


async def _stop_all(folder: Path) -> int:
    stopping = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge", "--stop-all", "--state", str(folder), stderr=asyncio.subprocess.DEVNULL
    )
    return await stopping.wait()


@asynccontextmanager
async def edge(state: Path, controller: Controller) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ends with SIGTERM, which must end it well."""
    with (state / "edge.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge", "--edge-id", "edge-a", "--state", str(state)),
            *("--controller", f"http://127.0.0.1:{controller.port}", "--listen-address", "127.0.0.1,::1"),
            env=os.environ | {"TRUEUP_TOKEN": TOKEN},
            stderr=log,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await process.wait() == 0, (state / "edge.log").read_text()


def planned(hostname: str, port: int, *backends: Backend) -> PlannedRoute:
    listed = tuple(PlannedBackend(each.name, "127.0.0.1", each.port) for each in backends)
    return PlannedRoute(f"route/{hostname}", hostname, port, "tls_passthrough", "off", listed)


async def test_the_program_follows_the_plan_and_reports(
    state: Path, controller: Controller, backend: StartBackend
) -> None:
    port, a, b = free_port(), await backend("a", "a.example"), await backend("b", "b.example")
    async with edge(state, controller):
        await controller.publish(planned("a.example", port, a))
        report = await controller.reported(2)
        assert [(r.route_id, r.status, r.backends) for r in report.routes] == [("route/a.example", "active", 1)]
        assert await who_answers(port, "a.example") == "a"
        await controller.publish(planned("b.example", port, b))
        await controller.reported(3)
        assert [await who_answers(port, name) for name in ("a.example", "b.example")] == ["", "b"]


async def test_routes_outlive_the_program_and_the_controller(
    state: Path, controller: Controller, backend: StartBackend
) -> None:
    port, a = free_port(), await backend("a", "a.example")
    async with edge(state, controller):
        await controller.publish(planned("a.example", port, a))
        await controller.reported(2)
    worker = await worker_pid(state / "haproxy")
    await controller.stop()
    async with connected(port, "a.example") as held:
        assert await held.who() == "a"
        async with edge(state, controller):

            async def applied() -> bool:
                return (state / "edge.log").read_text().count("table in force") == 2

            await until(applied, "the plan on disk is applied")
            assert await who_answers(port, "a.example") == "a"
        assert await held.who() == "a"
    assert await worker_pid(state / "haproxy") == worker, "no reload"


async def test_a_dead_haproxy_is_revived_without_a_controller(
    state: Path, controller: Controller, backend: StartBackend
) -> None:
    port, a = free_port(), await backend("a", "a.example")
    async with edge(state, controller):
        await controller.publish(planned("a.example", port, a))
        await controller.reported(2)
        await controller.stop()
        os.kill(await worker_pid(state / "haproxy"), signal.SIGKILL)

        async def served() -> bool:
            return await who_answers(port, "a.example") == "a"

        await until(served, "served again")


async def test_a_taken_port_is_reported_and_the_other_routes_are_served(
    state: Path, controller: Controller, backend: StartBackend
) -> None:
    port, taken, a = free_port(), free_port(), await backend("a", "a.example")
    with socket.create_server(("127.0.0.1", taken)):
        async with edge(state, controller):
            await controller.publish(planned("a.example", port, a), planned("b.example", taken, a))
            report = await controller.reported(2)
            told = {r.route_id: r for r in report.routes}
            assert told["route/a.example"].status == "active"
            assert f"port {taken}: Address already in use" in told["route/b.example"].reason_detail
            assert await who_answers(port, "a.example") == "a"


async def test_two_edges_on_one_folder_are_refused(state: Path, controller: Controller) -> None:
    async with edge(state, controller):
        await controller.reported(1)
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge", "--edge-id", "edge-a", "--state", str(state), "--token", TOKEN),
            *("--controller", f"http://127.0.0.1:{controller.port}"),
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await second.communicate()
        assert second.returncode == 2
        assert b"another trueup-edge uses it" in said
        assert await _stop_all(state) == 2, "the running edge would start it again"
