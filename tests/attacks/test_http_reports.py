"""Reports that are too large, and heartbeats that pretend to be news."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.server.limits import Limits, Rate
from tests.unit.server.world import enrol_node, serving, token_of

NODE, EDGE = token_of("node", "node-a"), token_of("edge", "edge-a")


def volumes(count: int) -> list[dict[str, Any]]:
    one = {"volume_id": "v", "counter": 1, "status": "available", "observed_at": "2026-01-01T00:00:00Z"}
    return [one] * count


@pytest.mark.parametrize(("entries", "status"), [(10, 200), (11, 413)])
async def test_a_report_has_a_bounded_number_of_entries(entries: int, status: int) -> None:
    async with serving(Limits(report_entries_max=10)) as world:
        body = {"node_id": "node-a", "instances": [], "volumes": volumes(entries)}
        assert (await world.call("POST", "/v1/nodes/node-a/reports", NODE, json=body))[0] == status
        assert len(world.calls) == (status == 200)


async def test_a_heartbeat_is_no_event() -> None:
    async with serving() as world:
        head = await enrol_node(world.log, "node-a")
        for _ in range(20):
            body = {"instances": volumes(3)}
            assert (await world.call("POST", "/v1/nodes/node-a/heartbeat", NODE, json=body))[0] == 200
        assert (await world.log.head()).last_event_id == head


async def test_a_machine_makes_a_bounded_number_of_events_however_it_cuts_them_up() -> None:
    """Each entry may be one: they are counted, not the requests. Nobody else is held back."""
    other = token_of("node", "node-b")
    async with serving(Limits(report_entries_max=10, report_entries_rate=Rate(0.1, 25))) as world:
        for count, status in ((10, 200), (10, 200), (10, 429), (5, 200), (1, 429)):
            body = {"node_id": "node-a", "instances": [], "volumes": volumes(count)}
            found, problem, headers = await world.call("POST", "/v1/nodes/node-a/reports", NODE, json=body)
            assert found == status
            if status == 429:
                assert problem["code"] == "rate_limited"
                assert 1 <= int(headers["Retry-After"]) <= 100
        body = {"node_id": "node-b", "instances": [], "volumes": volumes(10)}
        assert (await world.call("POST", "/v1/nodes/node-b/reports", other, json=body))[0] == 200
        routes = [{"route_id": "r", "status": "active", "backends": 1}] * 10
        told = {"edge_id": "edge-a", "applied_generation": 1, "observed_at": "", "routes": routes}
        answers = [(await world.call("POST", "/v1/edges/edge-a/reports", EDGE, json=told))[0] for _ in range(4)]
        assert answers == [200, 200, 429, 429]
