"""Requests that mean to be something else: a proxy's, a tunnel, another protocol, another host, another one, a bomb.

What two servers could read differently is in test_http_connections.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from reconciler.server.limits import Limits, Rate
from tests.attacks.knocking import Answer, answers, connected, drip, heard, said
from tests.unit.server.test_webhooks import headers_of
from tests.unit.server.world import enrol_node, serving, token_of

OPS, NODE = token_of("operator", "ops"), token_of("node", "node-a")
ASKED = f"Authorization: Bearer {OPS}\r\n".encode()
CLOSE = b"Connection: close\r\n"
HIDDEN = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n" + ASKED + b"\r\n"


async def one(data: bytes, limits: Limits | None = None) -> Answer:
    async with serving(limits) as world:
        (answer,) = answers(await said(world, data))
        assert world.calls == []
        return answer


@pytest.mark.parametrize(
    "target",
    ["http://evil.example/healthz", "https://u:p@evil.example:99/healthz", "ftp://evil.example/healthz", "/healthz#x"],
)
async def test_a_target_with_a_host_asks_this_server_and_no_other(target: str) -> None:
    answer = await one(f"GET {target} HTTP/1.1\r\nHost: evil.example\r\n".encode() + CLOSE + b"\r\n")
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


@pytest.mark.parametrize("target", ["http://evil.example/v1/status", "//evil.example/healthz", "/v1/../v1/status"])
@pytest.mark.parametrize("host", [b"evil.example", b"", b"a/b@c", b"127.0.0.1:22", b"x" * 4000])
async def test_no_host_and_no_dots_are_a_way_around_the_guard(target: str, host: bytes) -> None:
    answer = await one(f"GET {target} HTTP/1.1\r\n".encode() + b"Host: " + host + b"\r\n" + CLOSE + b"\r\n")
    assert answer.status in (400, 401)
    assert b"evil" not in answer.body and not any("evil" in value for value in answer.headers.values())


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"CONNECT 127.0.0.1:22 HTTP/1.1", 404),
        (b"CONNECT evil.example:443 HTTP/1.1", 404),
        (b"TRACE /healthz HTTP/1.1", 405),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"PUT /v1/status HTTP/1.1", 405),
        (b"PRI * HTTP/2.0", 400),
        (b"GET /healthz", 400),
        (b"GET /healthz HTTP/0.9", 400),
        (b"GET\t/healthz\tHTTP/1.1", 400),
        (b"GET evil.example:80 HTTP/1.1", 400),
        (b"GET /v1%2fstatus HTTP/1.1", 404),
        (b"GET /v1/%2e%2e/v1/status HTTP/1.1", 404),
    ],
)
async def test_it_is_no_proxy_no_tunnel_and_no_echo(request_line: bytes, status: int) -> None:
    marked = b"X-Marked: never-said-again\r\n"
    answer = await one(request_line + b"\r\nHost: x\r\n" + marked + CLOSE + ASKED + b"\r\n")
    assert answer.status == status
    assert b"never-said-again" not in answer.body
    assert answer.problem["code"] in ("malformed_request", "not_found", "method_not_allowed")


async def test_http_1_0_is_answered_and_closed() -> None:
    async with serving() as world:
        (answer,) = answers(await said(world, b"GET /healthz HTTP/1.0\r\n\r\n"))
        assert answer.status == 200
        (answer,) = answers(await said(world, b"GET /healthz HTTP/1.0\r\n\r\n" + HIDDEN))
        assert answer.status in (200, 400), "one answer, whatever comes behind"
        chunked = b"POST /v1/suspensions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" + ASKED + b"\r\n0\r\n\r\n"
        (answer,) = answers(await said(world, chunked))
        assert answer.status == 400
        assert world.calls == []


@pytest.mark.parametrize(
    "upgrade",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIA==\r\n",
        b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
    ],
)
async def test_no_other_protocol_is_spoken(upgrade: bytes) -> None:
    async with serving(Limits(header_timeout_s=1.0)) as world:
        back = await said(
            world, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        )
        assert {answer.status for answer in answers(back)} <= {200, 400}, "what follows is HTTP/1.1, or it is nothing"
        assert b" 101 " not in back


@pytest.mark.parametrize(
    "body",
    [
        b"2;" + b"y" * (1 << 20) + b"\r\n{}\r\n0\r\n\r\n",
        (b"1;" + b"y" * 1000 + b"\r\n \r\n") * 2000 + b"0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 300_000 + b"\r\n",
        b"2\r\n{}\r\n0\r\nContent-Length: 44\r\nAuthorization: Bearer x\r\n\r\n",
    ],
    ids=["a chunk's extension", "extensions of many chunks", "trailers without end", "trailers that are headers"],
)
async def test_what_comes_around_the_chunks_is_bounded_and_means_nothing(body: bytes) -> None:
    head = b"POST /v1/suspensions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + CLOSE + ASKED + b"\r\n"
    async with serving() as world:
        back = await said(world, head + body)
        assert world.calls == []
    for answer in answers(back):
        assert answer.status in (400, 413, 431)


def bomb(wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join([packer.compress(b" " * (1 << 20)) for _ in range(400)] + [packer.flush()])


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
async def test_a_compressed_body_is_never_unpacked(encoding: str, wbits: int) -> None:
    """400 MiB in 400 KB: it is no JSON, and that is all that is found out."""
    packed = bomb(wbits)
    assert len(packed) < 1 << 20
    async with serving() as world:
        before = rss_bytes()
        began_s = time.monotonic()
        status, problem, _ = await world.call(
            "POST", "/v1/suspensions", OPS, data=packed, headers={"Content-Encoding": encoding}
        )
        assert (status, problem["code"]) == (400, "invalid_argument")
        assert time.monotonic() - began_s < 2
        assert rss_bytes() - before < 50 << 20
        assert world.calls == []


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_a_bomb_of_json_is_not_parsed_before_its_signature_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor after it: nothing of a webhook is ever parsed."""
    parsed: list[int] = []
    real = json.loads

    def counted(text: bytes, **more: Any) -> Any:
        parsed.append(len(text))
        return real(text, **more)

    nested = b"[" * 200_000 + b"]" * 200_000
    async with serving() as world:
        assert world.session is not None
        monkeypatch.setattr("json.loads", counted)
        path = world.url + "/v1/sources/main/webhook"
        for headers, status in (
            ({}, 401),
            ({"X-Hub-Signature-256": "sha256=" + "0" * 64}, 401),
            (headers_of("github", nested, b"another secret"), 401),
            (headers_of("github", nested), 202),
        ):
            async with world.session.post(path, data=nested, headers=headers) as answer:
                assert answer.status == status
        assert parsed == []


@pytest.mark.parametrize("token", ["", NODE, OPS])
async def test_nobody_is_asked_for_a_body_that_will_not_be_read(token: str) -> None:
    """Expect: 100-continue: leave is given to those whose body is read, and only then."""
    who = f"Authorization: Bearer {token}\r\n".encode() if token else b""
    head = b"POST /v1/suspensions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + CLOSE + who
    async with serving(Limits(linger_s=0.2)) as world:
        back = await said(world, head + b"Content-Length: 9999999\r\n\r\n")
        assert not back.startswith(b"HTTP/1.1 100")
        assert answers(back)[0].status == {"": 401, NODE: 403, OPS: 413}[token]
        if token == OPS:
            async with connected(world) as (reader, writer):
                writer.write(head + b"Content-Length: 2\r\n\r\n")
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                writer.write(b"{}")
                (answer,) = answers(await heard(reader))
                assert answer.problem["code"] == "document_invalid"


async def test_ten_thousand_pipelined_requests_wait_in_the_clients_memory_and_not_here() -> None:
    async with serving(Limits(unproven_rate=Rate(20_000, 20_000))) as world, connected(world) as (reader, writer):
        before = rss_bytes()
        writer.write((b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-Pad: " + b"y" * 2000 + b"\r\n\r\n") * 9_999)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n")
        found = answers(await heard(reader))
        assert [each.status for each in found] == [200] * 10_000
        assert rss_bytes() - before < 120 << 20, "20 MB are the client's own buffer, and its copy of the answers"


async def test_a_pipeline_behind_a_refused_request_is_not_served() -> None:
    async with serving() as world:
        back = await said(world, b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: zz\r\n\r\n" + HIDDEN * 10)
        assert [each.status for each in answers(back)] == [400]


async def test_an_endless_answer_is_not_kept_for_who_does_not_take_it() -> None:
    """A client that asks and asks and reads nothing: its requests are not even read."""
    bounds = Limits(request_rate=Rate(10_000, 10_000), write_timeout_s=0.5)
    async with serving(bounds) as world, connected(world) as (_, writer):
        await enrol_node(world.log, "node-a")
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        before = rss_bytes()
        writer.write(ask * 400)
        await drip(writer, ask * 100, every_s=0.01)
        assert rss_bytes() - before < 100 << 20


def test_the_bomb_is_one() -> None:
    assert len(gzip.decompress(bomb(31))) == 400 << 20
