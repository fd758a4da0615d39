"""Callers that ask too often: each is held back alone, by what it is or by where it comes from."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.server.limits import Limits, Rate
from tests.unit.server.test_webhooks import BODY, headers_of
from tests.unit.server.world import World, enrol_node, serving, token_of

OPS, OTHER = token_of("operator", "ops"), token_of("operator", "other")
NODE, NODE_B = token_of("node", "node-a"), token_of("node", "node-b")
TIGHT = Rate(per_s=0.01, burst=5)
SIGNED = headers_of("github")


async def statuses(world: World, count: int, path: str, token: str = "", method: str = "GET", **more: Any) -> list[int]:
    return [(await world.call(method, path, token, **more))[0] for _ in range(count)]


async def test_an_identity_is_held_back_alone_and_told_when_to_come_back() -> None:
    async with serving(Limits(request_rate=TIGHT)) as world:
        assert await statuses(world, 7, "/v1/status", OPS) == [200] * 5 + [429] * 2
        status, problem, headers = await world.call("GET", "/v1/status", OPS)
        assert (status, problem["code"], problem["retryable"]) == (429, "rate_limited", True)
        assert 90 <= problem["retry_after_seconds"] == int(headers["Retry-After"]) <= 100
        assert (await world.call("GET", "/v1/nope", OPS))[0] == 429, "what does not exist costs the same"
        assert await statuses(world, 5, "/v1/status", OTHER) == [200] * 5


@pytest.mark.parametrize("token", ["", "operator:ops:" + "0" * 64, "x" * 500])
async def test_who_guesses_tokens_is_held_back_by_the_address_and_nobody_with_a_good_one_is(token: str) -> None:
    async with serving(Limits(unproven_rate=TIGHT)) as world:
        assert await statuses(world, 7, "/v1/status", token) == [401] * 5 + [429] * 2
        assert await statuses(world, 3, "/healthz") == [429] * 3
        assert await statuses(world, 20, "/v1/status", OPS) == [200] * 20


async def test_heartbeats_have_a_budget_of_their_own() -> None:
    async with serving(Limits(agent_rate=TIGHT, heartbeat_rate=TIGHT)) as world:
        await enrol_node(world.log, "node-a")
        await enrol_node(world.log, "node-b")
        assert await statuses(world, 7, "/v1/nodes/node-a/plan", NODE) == [200] * 5 + [429] * 2
        assert await statuses(world, 7, "/v1/nodes/node-a/heartbeat", NODE, "POST") == [200] * 5 + [429] * 2
        assert await statuses(world, 5, "/v1/nodes/node-b/heartbeat", NODE_B, "POST") == [200] * 5
        assert [name for name, _ in world.calls].count("heartbeat") == 10


async def test_streams_have_a_budget_of_their_own() -> None:
    async with serving(Limits(stream_rate=TIGHT)) as world:
        assert await statuses(world, 7, "/v1/stream?wait=0", OPS) == [200] * 5 + [429] * 2
        assert await statuses(world, 3, "/v1/status", OPS) == [200] * 3


async def test_webhooks_are_counted_before_their_body_is_read() -> None:
    """By address, for a signature costs a hash of up to 26 MB; a source that is not flooded is not heard then either,
    but it is polled all the same."""
    async with serving(Limits(webhook_rate=TIGHT)) as world:
        path = "/v1/sources/main/webhook"
        assert await statuses(world, 5, path, "", "POST", data=b"forged") == [401] * 5
        assert await statuses(world, 2, path, "", "POST", data=BODY, headers=SIGNED) == [429] * 2
        assert await statuses(world, 3, "/v1/status", OPS) == [200] * 3
        assert world.calls == []


async def test_a_proven_webhook_counts_against_its_source() -> None:
    async with serving(Limits(webhook_rate=Rate(0.01, 4))) as world:
        found = await statuses(world, 6, "/v1/sources/main/webhook", "", "POST", data=BODY, headers=SIGNED)
        assert found == [202] * 4 + [429] * 2
