"""Secrets that are sent to every place of a request, right and wrong: none of them is ever in a line of the log."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from yarl import URL

from kit import logs
from kit.errors import Bug, Refusal, Transient
from reconciler.server.app import ROUTES
from reconciler.server.auth import Role
from reconciler.server.limits import Limits, Rate
from tests.attacks.knocking import said
from tests.unit.server.test_route_matrix import path_of
from tests.unit.server.world import World, enrol_node, enrolment, serving, token_of

CANARY = "ca11ab1e" * 8
TOKEN = f"operator:ops:{CANARY}"
NAMES: dict[Role, str] = {"operator": "ops", "node": "node-a", "edge": "edge-a", "webhook": "main"}
ADDRESS = f"https://ann:{CANARY}@git.example/a.git"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    handlers, level = list(logging.getLogger().handlers), logging.getLogger("trueup").level
    logs.setup(level="debug", form="json")
    yield out
    logging.getLogger().handlers[:] = handlers
    logging.getLogger("trueup").setLevel(level)


async def send(world: World, method: str, path: str, token: str) -> None:
    assert world.session is not None
    headers = {
        "Authorization": f"Bearer {token}", "Cookie": f"session={CANARY}", "X-Gitlab-Token": CANARY,
        "X-Hub-Signature-256": f"sha256={CANARY}", "Idempotency-Key": "a-key-of-mine", "X-Request-Id": "canary-request",
    }  # fmt: skip
    url = URL(world.url + path, encoded=True)
    url = url.update_query(access_token=CANARY) if token == TOKEN else url
    async with world.session.request(method, url, headers=headers, json={"reason": TOKEN, "scope": ADDRESS}) as answer:
        await answer.read()


async def test_no_path_through_the_server_logs_a_canary(log: io.StringIO) -> None:
    async with serving(Limits(unproven_rate=Rate(1, 60))) as world:
        await enrol_node(world.log, "node-a")
        good: dict[str, str] = {role: token_of(role, name) for role, name in NAMES.items()}
        for route in world.app[ROUTES]:
            for token in (TOKEN, good.get(min(route.roles), "")):
                await send(world, route.method, path_of(route), token)
        await send(world, "GET", f"/v1/views/nodes/{TOKEN}", good["operator"])
        for error in (Bug("clone", ADDRESS), Refusal("clone", ADDRESS), Transient("clone", ADDRESS), ValueError(TOKEN)):
            world.break_with = error
            await world.call("POST", "/v1/nodes/node-a/enrol", good["node"], json=enrolment("node-a"))
        await said(world, f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization\x00: Bearer {TOKEN}\r\n\r\n".encode())
        await said(world, f"GET /{TOKEN} HTTP/1.1 {CANARY}\r\n\r\n".encode())
    lines = log.getvalue()
    assert lines.count('"msg"') > 60
    assert "canary-request" in lines, "every line of a request has its id"
    for secret in (CANARY, *(token.rsplit(":", 1)[1] for token in good.values())):
        assert secret not in lines
