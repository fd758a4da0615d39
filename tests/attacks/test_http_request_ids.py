"""Request ids: on every answer, whatever it is; taken over when sound, never a way to write into a header or a log."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.server.limits import Limits, Rate
from tests.attacks.knocking import answers, connected, said
from tests.unit.server.world import World, enrol_node, serving, token_of, until

OPS, NODE = token_of("operator", "ops"), token_of("node", "node-a")
CLOSE = b"Host: x\r\nConnection: close\r\n"
ASKED = f"Authorization: Bearer {OPS}\r\n".encode()

ODD: dict[str, tuple[bytes, int]] = {
    "a probe": (b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n", 200),
    "nobody": (b"GET /v1/status HTTP/1.1\r\n" + CLOSE + b"\r\n", 401),
    "no such path": (b"GET /nope HTTP/1.1\r\n" + CLOSE + ASKED + b"\r\n", 404),
    "no such method": (b"PUT /healthz HTTP/1.1\r\n" + CLOSE + ASKED + b"\r\n", 405),
    "not allowed": (f"GET /v1/status HTTP/1.1\r\nAuthorization: Bearer {NODE}\r\n".encode() + CLOSE + b"\r\n", 403),
    "an odd query": (b"GET /v1/status?x=1 HTTP/1.1\r\n" + CLOSE + ASKED + b"\r\n", 400),
    "no request": (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    "a long line": (b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
    "many lines": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
    "an expectation": (b"GET /healthz HTTP/1.1\r\nExpect: a-miracle\r\n" + CLOSE + b"\r\n", 417),
    "a giant body": (b"POST /v1/suspensions HTTP/1.1\r\nContent-Length: 9999999\r\n" + CLOSE + ASKED + b"\r\n", 413),
    "a slow body": (b"POST /v1/suspensions HTTP/1.1\r\nContent-Length: 9\r\n" + CLOSE + ASKED + b"\r\n{", 408),
}


@pytest.mark.parametrize("name", ODD)
async def test_every_answer_has_a_request_id(name: str) -> None:
    data, status = ODD[name]
    async with serving(Limits(body_timeout_s=0.3)) as world:
        (answer,) = answers(await said(world, data))
    assert answer.status == status
    assert answer.headers["x-request-id"].startswith("req-")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert status == 200 or answer.problem["request_id"]


async def test_so_have_the_answers_of_bounds_and_streams() -> None:
    bounds = Limits(connections_per_address_max=2, unproven_rate=Rate(0.01, 1))
    async with serving(bounds) as world:
        for status in (200, 429):
            (answer,) = answers(await said(world, ODD["a probe"][0]))
            assert (answer.status, answer.headers["x-request-id"][:4]) == (status, "req-")
        async with connected(world) as (reader, writer), connected(world):
            await until(lambda: len(world.server_connections()) == 2)
            (answer,) = answers(await said(world, ODD["a probe"][0]))
            assert (answer.status, answer.problem["code"]) == (503, "unavailable")
            writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nX-Request-Id: my-own-stream\r\n" + ASKED + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"X-Request-Id: my-own-stream\r\n" in head


@pytest.mark.parametrize(
    "given",
    [
        b"short",
        b"y" * 129,
        b"a-good-start\x00and-a-nul",
        b"a-good-start\xc2\x85and-a-next-line",
        b"a-good-start\xe2\x80\xa8and-a-line-separator",
        b"a-good-start\rSet-Cookie: stolen=1",
        b"a-good-start\nSet-Cookie: stolen=1",
        b"a-good-start\r\n Set-Cookie: stolen=1",
        b"a-good-start%0d%0aSet-Cookie:stolen=1",
        b'a-good-start","level":"error',
        b"main@" + b"a" * 40,
        b"<script>alert(1)</script>",
        b"a-good-start, another-one",
    ],
)
async def test_an_id_that_is_not_sound_is_never_said_again(given: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with serving() as world:
        asked = b"GET /v1/nope HTTP/1.1\r\n" + CLOSE + ASKED + b"X-Request-Id: " + given + b"\r\n\r\n"
        back = await said(world, asked)
        (answer,) = answers(back)
    assert answer.status in (400, 404)
    assert answer.headers["x-request-id"].startswith("req-")
    assert "set-cookie" not in answer.headers
    assert b"stolen" not in back and b"script" not in back
    assert given.decode("latin1") not in caplog.text + "".join(str(vars(each)) for each in caplog.records)


async def test_two_ids_are_one_answer_with_one_id() -> None:
    async with serving() as world:
        twice = b"X-Request-Id: the-first-one\r\nX-Request-Id: the-second-one\r\n"
        back = await said(world, b"GET /v1/nope HTTP/1.1\r\n" + CLOSE + ASKED + twice + b"\r\n")
        assert back.count(b"X-Request-Id") == 1
        assert answers(back)[0].headers["x-request-id"] == "the-first-one"


async def act(world: World, node: str, request_id: str) -> int:
    headers = {"X-Request-Id": request_id, "Idempotency-Key": f"key-of-{request_id}"}
    status, _, answered = await world.call(
        "POST", f"/v1/nodes/{node}/disable", OPS, json={"reason": "x"}, headers=headers
    )
    assert answered["X-Request-Id"] == request_id
    return status


async def test_events_follow_from_the_request_that_made_them_and_from_no_other() -> None:
    """Ten at once, on one connection pool: what one request works on is not what another one does."""
    async with serving() as world:
        for number in range(10):
            await enrol_node(world.log, f"node-{number}")
        asked = [act(world, f"node-{number}", f"request-{number}") for number in range(10)]
        assert await asyncio.gather(*asked) == [200] * 10
        for number in range(10):
            found = (await world.get(f"/v1/events?request=request-{number}"))["events"]
            assert [each["aggregate_id"] for each in found] == [f"node-{number}"]
            assert found[0]["cause"]["correlation_id"] == f"request-{number}"
            assert (await world.get(f"/v1/events?request={found[0]['command_id']}"))["events"] == found
