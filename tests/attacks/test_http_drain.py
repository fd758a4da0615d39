"""A stop while clients are connected: told first, served to the end of what they asked, and over in bounded time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from reconciler.server.limits import Limits
from tests.attacks.knocking import connected, heard
from tests.unit.server.world import DEADLINE_S, enrolment, serving, token_of, until

OPS, NODE = token_of("operator", "ops"), token_of("node", "node-a")


async def test_readiness_goes_first_while_requests_are_still_served() -> None:
    async with serving(Limits(drain_notice_s=0.5)) as world:
        assert (await world.call("GET", "/readyz"))[0] == 200
        stopping = asyncio.create_task(world.server.stop())
        await asyncio.sleep(0)
        status, problem, headers = await world.call("GET", "/readyz")
        assert (status, problem["code"], headers["Connection"]) == (503, "unavailable", "close")
        assert "shutting down" in problem["detail"]
        assert (await world.call("GET", "/healthz"))[0] == 200, "it lives"
        assert (await world.call("GET", "/v1/status", OPS))[0] == 200
        assert not stopping.done()
        await asyncio.wait_for(stopping, DEADLINE_S)


async def test_a_stream_is_told_to_go_elsewhere() -> None:
    async with serving() as world:
        assert world.session is not None
        headers = {"Authorization": f"Bearer {OPS}"}
        async with world.session.get(f"{world.url}/v1/stream", headers=headers) as answer:
            await answer.content.readline()
            stopping = asyncio.create_task(world.server.stop())
            lines = [json.loads(line) async for line in answer.content]
            assert lines[-1] == {"type": "end", "reason": "shutdown"}
        await asyncio.wait_for(stopping, DEADLINE_S)


async def test_neither_a_stuck_handler_nor_a_silent_client_holds_a_stop_up() -> None:
    async with serving(Limits(drain_timeout_s=0.3)) as world, connected(world) as (reader, writer):
        entered = asyncio.Event()

        async def stuck(name: str, document: Any) -> int:
            entered.set()
            await asyncio.Event().wait()
            return 1

        world.handle = stuck  # type: ignore[method-assign]  # one handler that never ends is the point
        writer.write(b"GET /healthz HT")  # and never goes on
        asking = asyncio.create_task(world.call("POST", "/v1/nodes/node-a/enrol", NODE, json=enrolment("node-a")))
        await asyncio.wait_for(entered.wait(), DEADLINE_S)
        async with asyncio.timeout(5):
            await world.server.stop()
        assert await heard(reader) == b""
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: not world.server_connections())
