"""GUARANTEES.md, attacks on agents: reports that were sent before, of an epoch that is over, or of another's instance.

At a real controller, over TLS with certificates. What is refused is not asked for again, and leaves no event.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kit.codec import to_json
from kit.control_plane import ControlPlane
from kit.wire import Endpoint, InstanceReport, NodeReport
from tests.integration.cli.test_controller import Fleet, PretendedAgent, fleet, until
from tests.joining import as_machine, told

__all__ = ["fleet"]


async def statuses(fleet: Fleet, instance_id: str) -> list[tuple[int, str]]:
    """(event, status) of all that was ever told of an instance."""
    async with ControlPlane(told(fleet.state, "controller.url"), told(fleet.state, "operator.token")) as operator:
        answer = await operator.get_json("/v1/events", aggregate_id=instance_id)
    return [
        (each["event_id"], each["payload"]["status"])
        for each in answer["events"]
        if each["event_type"] == "instance.status_changed"
    ]


def report(instance_id: str, address: str, counter: int, status: Any, *, epoch: int = 1, of: str = "node-a") -> Any:
    ends = (Endpoint(8080, address, 8080),)
    told_of = InstanceReport(instance_id, epoch, counter, status, "2026-01-01T00:00:00Z", "boot-1", endpoints=ends)
    return to_json(NodeReport(of, (told_of,)))


async def test_an_old_report_changes_nothing(fleet: Fleet) -> None:
    stop = asyncio.Event()
    async with fleet.machine("node", "node-a") as mine, as_machine(fleet.state, "node", "node-b") as other:
        agent = PretendedAgent(mine)
        running = asyncio.create_task(agent.run(stop))

        async def is_ready() -> bool:
            found = agent.plans[-1].instances if agent.plans else ()
            return bool(found) and bool(await statuses(fleet, found[0].instance_id))

        await until(is_ready)
        stop.set()
        await running
        planned = agent.plans[-1].instances[0]
        name, address = planned.instance_id, planned.workload.address
        before = await statuses(fleet, name)
        path = "/v1/nodes/node-a/reports"
        for replayed in (
            report(name, address, 1, "ready"),  # the same again
            report(name, address, 1, "failed"),  # its counter with other words
            report(name, address, 0, "failed"),
            report(name, address, 9, "failed", epoch=0),  # an epoch that is over
            report(name, address, 9, "failed", epoch=2),  # one that nobody allocated
        ):
            await mine.post_json(path, replayed)
            assert await statuses(fleet, name) == before, replayed
        await other.post_json("/v1/nodes/node-b/reports", report(name, address, 9, "failed", of="node-b"))
        assert await statuses(fleet, name) == before, "another node's instance"
        await mine.post_json(path, report(name, address, 9, "failed"))
        assert [status for _, status in await statuses(fleet, name)] == [*(each for _, each in before), "failed"]
