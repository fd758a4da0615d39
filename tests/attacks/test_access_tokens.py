"""GUARANTEES.md, attacks on the API: tokens of people and CI are scoped, end, are revoked, are kept as digests only."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kit.control_plane import ControlPlane
from kit.errors import TrueupError
from tests.attacks.machines import OPERATOR, Door, door
from tests.twin import append
from tests.unit.projections.samples import new_event


async def made(fleet: Door, *verbs: str, by: str = OPERATOR, **more: Any) -> tuple[int, Any]:
    body = {"name": "ci", "verbs": list(verbs), "days": 1, **more}
    status, document, _ = await fleet.world.call("POST", "/v1/tokens", by, json=body)
    return status, document


async def test_a_token_does_what_its_scope_says_and_is_kept_as_a_digest(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        status, document = await made(fleet, "read")
        assert status == 200
        token = document["token"]
        assert (await fleet.world.call("GET", "/v1/status", token))[0] == 200
        drain = await fleet.world.call("POST", "/v1/nodes/node-a/drain", token, json={"reason": "x"})
        assert drain[0] == 403
        assert (await fleet.world.call("POST", "/v1/sources/main/look", token))[0] == 403
        assert (await made(fleet, "read", by=token))[0] == 403
        secret = token.rpartition("_")[2] if "_" not in token[22:] else token.split("_", 2)[2]
        listed = await fleet.operator("GET", "/v1/tokens")
        kept = json.dumps([event.payload for event in fleet.world.log.events]) + json.dumps(listed)
        assert secret not in kept
        wrong = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
        for bad in (wrong, token.replace(document["token_id"], "t-000000000000"), token + "x"):
            assert (await fleet.world.call("GET", "/v1/status", bad))[0] == 401


async def test_a_token_of_a_project_sees_no_other(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        _, document = await made(fleet, "read", "look", org="acme", project="shop")
        for path in ("/v1/status", "/v1/events", "/v1/log?source=main", "/v1/log"):
            assert (await fleet.world.call("GET", path, document["token"]))[0] == 403
        for other in ("org=globex", "org=acme&project=blog", "node=node-a", "edge=1"):
            assert (await fleet.world.call("GET", f"/v1/stream?wait=0&{other}", document["token"]))[0] == 403


async def test_the_stream_of_a_bound_token_is_what_it_asks_for_within_its_project(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        _, document = await made(fleet, "read", org="acme", project="shop")
        log, token = fleet.world.log, document["token"]
        head = await log.head()
        mine = await append(log, "c-mine", new_event("app.moved", resource_id="acme/shop/prod/site/app/site"))
        other = await append(log, "c-env", new_event("app.moved", resource_id="acme/shop/test/site/app/site"))
        await append(log, "c-other", new_event("app.moved", resource_id="acme/blog/prod/site/app/site"))
        await append(log, "c-node", new_event("node.enrolled"))

        async def told(query: str) -> list[int]:
            path = f"/v1/stream?wait=2&cursor={head.log_id}.{head.last_event_id}{query}"
            status, body, _ = await fleet.world.call("GET", path, token)
            assert status == 200
            lines = [json.loads(line) for line in body.splitlines()]
            return [line["event"]["event_id"] for line in lines if line["type"] == "change"]

        assert await told("") == [mine, other]
        assert await told("&env=prod") == [mine]
        assert await told("&org=acme&project=shop&kind=app&env=test") == [other]
        status, body, _ = await fleet.world.call("GET", "/v1/stream?snapshot=1&wait=0", token)
        assert (status, [json.loads(line)["type"] for line in body.splitlines()]) == (200, ["hello", "bookmark"])


async def test_no_token_makes_one_that_may_more(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        _, document = await made(fleet, "grant", "read")
        assert (await made(fleet, "read", by=document["token"]))[0] == 200
        assert (await made(fleet, "read", "act", by=document["token"]))[0] == 403
        assert (await made(fleet, "follow"))[0] == 400, "what machines do is nothing for tokens"
        assert (await made(fleet))[0] == 400


async def test_a_token_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with door(tmp_path) as fleet:
        _, document = await made(fleet, "read")
        later = (datetime.now(UTC) + timedelta(days=1, seconds=5)).isoformat()
        monkeypatch.setattr("kit.clock.SystemClock.utc", lambda _: later)
        assert (await fleet.world.call("GET", "/v1/status", document["token"]))[0] == 401


async def test_a_revoked_token_loses_its_stream(tmp_path: Path) -> None:
    async with door(tmp_path) as fleet:
        _, document = await made(fleet, "read")
        async with ControlPlane(fleet.world.url, document["token"]) as mine:
            async with mine.lines("/v1/stream", idle_timeout_s=30) as stream:
                assert (await anext(stream))["type"] == "hello"
                path = f"/v1/tokens/{document['token_id']}/revoke"
                await fleet.operator("POST", path, json={"reason": "ci moved"})
                async with asyncio.timeout(5):
                    with pytest.raises((TrueupError, StopAsyncIteration, aiohttp.ClientError)):
                        while True:
                            await anext(stream)
        assert (await fleet.world.call("GET", "/v1/status", document["token"]))[0] == 401
        (listed,) = (await fleet.operator("GET", "/v1/tokens"))["tokens"]
        assert (listed["revoked"], listed["created_by"]) == ("ci moved", "operator:ops")
