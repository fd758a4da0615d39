"""Reports on real Postgres: each is one event whatever happens on the way, and many are few transactions."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from kit.codec import from_json, to_json
from kit.wire import EdgeReport, NodeReport, RouteReport, VolumeReport
from reconciler.core.model import VolumeUse
from tests.integration.tasks.controller import Controller
from tests.unit.decide.test_git import route
from tests.unit.scheduler.world import app, process, volume

DEADLINE_S = 20.0
AGENT = """
import asyncio, random, sys
from pathlib import Path
from agent.report import Reporter
from kit.control_plane import ControlPlane
from kit.wire import InstanceReport

async def main(url, state, *instances):
    async with ControlPlane(url) as control_plane:
        post = lambda document: control_plane.post_json("/v1/nodes/node-a/reports", document)
        reporter = Reporter(Path(state), "node-a", post, random.Random(1), first_counter=100)
        for instance_id in instances:
            reporter.push(InstanceReport(instance_id, 1, 0, "ready", "2026-01-01T00:00:00Z"))
        await reporter.run()

asyncio.run(main(*sys.argv[1:]))
"""


async def with_instances(controller: Controller, count: int) -> list[Any]:
    await controller.enrol("node-a", 16_384)
    await controller.commit(app(web=process(replicas=count)))
    await controller.scheduler.one_pass()
    return list((await controller.rows("instances")).values())


@asynccontextmanager
async def agent(url: str, state: Path, *instances: str) -> Any:
    """An agent's reporter, a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", AGENT, url, str(state), *instances)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_an_agent_that_is_killed_before_the_answer_says_it_again_and_it_is_one_event(
    controller: Controller, tmp_path: Path
) -> None:
    (row,) = await with_instances(controller, 1)
    got: list[Any] = []
    recorded = asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        document = await request.json()
        got.append(document)
        taken = await controller.handlers.record_node_report(from_json(NodeReport, document))
        recorded.set()
        if len(got) == 1:
            await asyncio.Event().wait()  # it is recorded, and nobody hears of it
        return web.json_response(to_json(taken))

    served = web.Application()
    served.router.add_post("/v1/nodes/node-a/reports", take)
    async with TestServer(served) as server, asyncio.timeout(DEADLINE_S):
        url = str(server.make_url("/"))
        async with agent(url, tmp_path, row["instance_id"]) as first:
            await recorded.wait()
            first.send_signal(signal.SIGKILL)
        recorded.clear()
        async with agent(url, tmp_path):
            await recorded.wait()
            while list((tmp_path / "reports").glob("*.json")):
                await asyncio.sleep(0.01)
    assert got[0] == got[1], "the same words, the same counter"
    (event,) = await controller.events("instance.status_changed")
    assert event.payload["counter"] == 101


async def test_an_old_counter_changes_nothing_and_is_answered_with_the_present_one(controller: Controller) -> None:
    (row,) = await with_instances(controller, 1)
    newer = replace(controller.told(row, "ready"), counter=9)
    older = replace(newer, counter=3, status="booting")
    assert (await controller.handlers.record_node_report(NodeReport("node-a", (newer,)))).counter == 9
    await controller.caught_up()
    taken = await controller.handlers.record_node_report(NodeReport("node-a", (older,)))
    assert (taken.counter, taken.refused) == (9, ())
    assert [event.payload["counter"] for event in await controller.events("instance.status_changed")] == [9]
    await controller.enrol("node-b")
    about_another = await controller.handlers.record_node_report(NodeReport("node-b", (older,)))
    assert about_another.counter == 3, "nobody learns of the counters of another node"


async def test_what_many_agents_say_at_once_is_few_transactions(controller: Controller) -> None:
    """While one append waits for the head of the log, whatever comes goes into the next ones."""
    rows = await with_instances(controller, 60)
    reports = [NodeReport("node-a", (controller.told(row, "ready"),)) for row in rows]
    log = controller.store.log
    async with log._pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM log_head FOR UPDATE")
            at_once = [asyncio.create_task(controller.handlers.record_node_report(each)) for each in reports]
            async with asyncio.timeout(DEADLINE_S):
                while log._batcher._queued_commands < len(rows) - 10:
                    await asyncio.sleep(0.01)
        await asyncio.gather(*at_once)
        found = await connection.fetchrow(
            "SELECT count(*) AS events, count(DISTINCT xmin::text) AS transactions FROM events"
            " WHERE event_type = 'instance.status_changed'"
        )
    assert found["events"] == len(rows) >= 40
    assert found["transactions"] <= 12, found


async def test_a_volumes_report_that_is_said_again_does_not_bring_an_old_state_back(controller: Controller) -> None:
    await controller.enrol("node-a")
    await controller.commit(volume(), app(db=process(volumes=(VolumeUse("data", "/data"),))))
    await controller.settle()
    one = VolumeReport(str(volume().id), 40, "available", "2026-01-01T00:00:00Z")
    await controller.handlers.record_node_report(NodeReport("node-a", volumes=(one,)))
    await controller.caught_up()
    both = NodeReport("node-a", volumes=(replace(one, counter=41), replace(one, counter=42, status="in_use")))
    for _ in range(3):
        await controller.handlers.record_node_report(both)
        await controller.caught_up()
    told = [event.payload["status"] for event in await controller.events("volume.status_changed")]
    assert told == ["available", "in_use"]
    assert (await controller.rows("resources"))[str(volume().id)]["status"] == "in_use"


async def test_an_edge_that_says_the_same_again_and_again_makes_one_event_of_each_transition(
    controller: Controller,
) -> None:
    await controller.commit(route())
    for generation, status in enumerate(["active"] * 5 + ["failed"] * 5 + ["active"] * 5):
        told = RouteReport(str(route().id), status, 2)  # type: ignore[arg-type]  # one of the two
        report = EdgeReport("edge-a", generation, "2026-01-01T00:00:00Z", (told, told))
        await asyncio.gather(*(controller.handlers.record_edge_report(report) for _ in range(3)))
        await controller.caught_up()
    changes = await controller.events("route.status_changed")
    assert [event.payload["status"] for event in changes] == ["active", "failed", "active"]
