"""A stand-in for the controller: the agents' endpoints over HTTP, with a plan that a test changes as it likes."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Any

from aiohttp import web

from kit.codec import to_json
from kit.wire import NodePlan


class Controller:
    """Listens on a socket that the test made, in whatever network namespace. `stop` makes it unreachable."""

    def __init__(self, plan: NodePlan) -> None:
        self.plan = plan
        self.enrolments: list[Any] = []
        self.heartbeats: list[Any] = []
        self.reports: list[Any] = []
        self.sealed: dict[str, Any] = {}
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        app = web.Application()
        base = "/v1/nodes/{node}"
        app.add_routes(
            [
                web.post(f"{base}/enrol", self._enrol),
                web.post(f"{base}/heartbeat", self._heartbeat),
                web.post(f"{base}/reports", self._report),
                web.get(f"{base}/plan", self._plan),
                web.get(f"{base}/instances/{{instance}}/secret", self._secret),
                web.get("/v1/stream", self._stream),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def set_plan(self, plan: NodePlan) -> None:
        """The next generation of the plan."""
        async with self._changed:
            self.plan = replace(plan, generation=self.plan.generation + 1)
            self._changed.notify_all()

    async def wait_for_status(self, instance_id: str, status: str, timeout_s: float = 60.0, nth: int = 1) -> Any:
        """The nth report of that status."""

        def found() -> list[Any]:
            return [r for r in self.reports if r["instance_id"] == instance_id and r["status"] == status]

        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: len(found()) >= nth)
        except TimeoutError:
            told = [(r["instance_id"], r["status"], r["reason_code"], r["reason_detail"]) for r in self.reports]
            raise AssertionError(f"{instance_id} was not told {status} in {timeout_s} s; told: {told}") from None
        return found()[nth - 1]

    async def _enrol(self, request: web.Request) -> web.Response:
        self.enrolments.append(await request.json())
        return web.json_response({})

    async def _heartbeat(self, request: web.Request) -> web.Response:
        self.heartbeats.append(await request.json())
        return web.json_response({})

    async def _report(self, request: web.Request) -> web.Response:
        document = await request.json()
        async with self._changed:
            self.reports += document["instances"]
            self._changed.notify_all()
        counters = [report["counter"] for report in (*document["instances"], *document["volumes"])]
        return web.json_response({"counter": max(counters, default=0)})

    async def _plan(self, request: web.Request) -> web.Response:
        return web.json_response(to_json(self.plan))

    async def _secret(self, request: web.Request) -> web.Response:
        return web.json_response(self.sealed[request.match_info["instance"]])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await answer.prepare(request)
        seen = int(request.query["cursor"].rpartition(".")[2])
        while True:
            seen = await self._wait_past(seen)
            line = f'{{"type":"change","cursor":"{self.plan.log_id}.{seen}","event":{{"event_id":{seen}}}}}\n'
            await answer.write(line.encode())

    async def _wait_past(self, generation: int) -> int:
        async with self._changed:
            await self._changed.wait_for(lambda: self.plan.generation > generation)
            return self.plan.generation
