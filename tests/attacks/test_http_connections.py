"""Clients that are slow, endless, enormous or ambiguous: each costs a bounded part of the server for a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from reconciler.server.limits import Limits, Rate
from tests.attacks.knocking import answers, connected, drip, heard, said
from tests.unit.server.world import DEADLINE_S, World, serving, token_of, until

NODE = token_of("node", "node-a")
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
REPORT = f"POST /v1/nodes/node-a/reports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {NODE}\r\n".encode()


async def all_gone(world: World) -> None:
    await until(lambda: not world.server_connections())


@pytest.mark.parametrize("start", [b"GET /hea", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_header_that_drips_has_a_deadline_that_no_byte_moves(start: bytes) -> None:
    async with serving(Limits(header_timeout_s=0.5)) as world, connected(world) as (reader, writer):
        writer.write(start)
        dripping = asyncio.create_task(drip(writer, b"y", every_s=0.02))
        assert await heard(reader) == b""
        await all_gone(world)
        await asyncio.wait_for(dripping, DEADLINE_S)


async def test_a_connection_that_says_nothing_has_the_same_deadline() -> None:
    async with serving(Limits(header_timeout_s=0.3)) as world:
        assert await said(world, b"") == b""
        await all_gone(world)


async def test_the_second_header_has_the_same_deadline() -> None:
    async with serving(Limits(header_timeout_s=0.5)) as world, connected(world) as (reader, writer):
        writer.write(HEALTH)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
        dripping = asyncio.create_task(drip(writer, b"y", every_s=0.02))
        await heard(reader)
        await all_gone(world)
        await asyncio.wait_for(dripping, DEADLINE_S)


@pytest.mark.parametrize("framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_body_that_drips_has_a_deadline_that_no_byte_moves(framing: bytes) -> None:
    piece = b"y" if b"Length" in framing else b"1\r\ny\r\n"
    async with serving(Limits(body_timeout_s=0.5)) as world, connected(world) as (reader, writer):
        writer.write(REPORT + framing)
        dripping = asyncio.create_task(drip(writer, piece, every_s=0.02))
        (answer,) = answers(await heard(reader))
        assert (answer.status, answer.problem["code"]) == (408, "request_timeout")
        await all_gone(world)
        await asyncio.wait_for(dripping, DEADLINE_S)


async def test_a_body_that_nobody_wants_holds_no_connection() -> None:
    """The answer does not wait for it, and neither does the end of the connection."""
    async with serving(Limits(linger_s=0.2)) as world, connected(world) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        dripping = asyncio.create_task(drip(writer, b"y", every_s=0.02))
        (answer,) = answers(await heard(reader))
        assert answer.status == 200
        await all_gone(world)
        await asyncio.wait_for(dripping, DEADLINE_S)


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-Big: " + b"y" * 20_000],
        [b"X-%d: y" % number for number in range(1000)],
        [b"X-%d: " % number + b"y" * 4000 for number in range(60)],
    ],
    ids=["one line", "many lines", "all together"],
)
async def test_a_giant_header_is_refused(lines: list[bytes]) -> None:
    """Sent line by line, and never finished: it is not kept until it is complete."""
    async with serving() as world, connected(world) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            for line in lines:
                writer.write(line + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
        (answer,) = answers(await heard(reader))
        assert (answer.status, answer.problem["code"]) == (431, "header_too_large")
        await all_gone(world)


async def test_a_giant_request_line_is_refused() -> None:
    async with serving() as world:
        (answer,) = answers(await said(world, b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert (answer.status, answer.problem["code"]) == (431, "header_too_large")


async def test_chunks_without_end_are_refused_at_the_bound() -> None:
    async with serving(Limits(body_bytes_max=100_000)) as world, connected(world) as (reader, writer):
        writer.write(REPORT + b"Transfer-Encoding: chunked\r\n\r\n")
        endless = asyncio.create_task(drip(writer, b"2000\r\n" + b" " * 0x2000 + b"\r\n", every_s=0))
        (answer,) = answers(await heard(reader))
        assert (answer.status, answer.problem["code"]) == (413, "body_too_large")
        await asyncio.wait_for(endless, DEADLINE_S)
        await all_gone(world)
        assert world.calls == []


@pytest.mark.parametrize("length", [b"1048577", b"99999999999999999999"])
async def test_a_giant_body_is_refused_by_its_length(length: bytes) -> None:
    async with serving() as world:
        (answer,) = answers(await said(world, REPORT + b"Content-Length: " + length + b"\r\n\r\n{"))
        assert answer.status in (400, 413)
        assert answer.problem["code"] in ("body_too_large", "malformed_request")


async def test_a_thousand_pipelined_requests_are_answered_in_turn_and_no_more_are_read_than_fit() -> None:
    bounds = Limits(unproven_rate=Rate(2000, 2000))
    async with serving(bounds) as world, connected(world) as (reader, writer):
        writer.write(HEALTH * 1000 + HEALTH.replace(b"Host", b"Connection: close\r\nHost"))
        assert [each.status for each in answers(await heard(reader))] == [200] * 1001


HIDDEN = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        b"Content-Length: 0, 44\r\n\r\n",
        b"Content-Length: +0\r\n\r\n",
        b"Content-Length: 0x0\r\n\r\n",
        b"Content-Length : 0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"X: a\r\n Content-Length: 0\r\n\r\n",
        b"X: a\rContent-Length: 0\r\n\r\n",
        b"X: a\nContent-Length: 0\n\n",
        b"X\x00: a\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x1\r\ny\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ],
)
async def test_a_request_that_two_servers_could_read_differently_is_not_read_on(framing: bytes) -> None:
    """Behind a proxy that takes the other reading, HIDDEN would be the next client's request. It is never answered."""
    async with serving(Limits(body_timeout_s=0.5)) as world:
        found = answers(await said(world, REPORT + framing + HIDDEN))
        assert [each.status for each in found] in ([400], [])
        for answer in found:
            assert answer.problem["code"] in ("malformed_request", "invalid_argument")
        await all_gone(world)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
async def test_what_is_no_request_gets_a_problem_and_nothing_of_itself_back(data: bytes) -> None:
    async with serving() as world:
        (answer,) = answers(await said(world, data))
        assert (answer.status, answer.problem["code"]) == (400, "malformed_request")


async def test_an_expectation_that_nobody_knows_is_a_problem_too() -> None:
    async with serving() as world:
        (answer,) = answers(await said(world, b"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: a-miracle\r\n\r\n"))
        assert (answer.status, answer.problem["code"]) == (417, "expectation_failed")


async def test_a_malformed_header_is_neither_answered_nor_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = token_of("operator", "ops").encode()
    async with serving() as world:
        for header in (b"Authorization\x00: Bearer " + token, b"Authorization: Bearer " + token + b"y" * 9000):
            said_back = await said(world, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
            assert b"problem+json" in said_back
            assert token not in said_back
    assert token.decode() not in caplog.text + "".join(str(vars(each)) for each in caplog.records)


async def test_a_half_closed_connection_is_freed() -> None:
    async with serving() as world, connected(world) as (reader, writer):
        writer.write(REPORT + b"Content-Length: 9\r\n\r\n{")
        await until(lambda: world.server_connections())
        writer.write_eof()
        await heard(reader)
        await all_gone(world)
        assert world.calls == []


async def test_ten_thousand_connections_hold_no_more_than_their_bound() -> None:
    """From one address; those within the bound go on being served while the others are turned away with a reason."""
    bounds = Limits(connections_per_address_max=100, header_timeout_s=30)
    async with serving(bounds) as world, connected(world) as (reader, writer):
        writer.write(HEALTH)
        await reader.readuntil(b"\r\n\r\n")
        host, port = world.url.removeprefix("http://").split(":")
        most = 0
        held: list[socket.socket] = []
        try:
            for _ in range(100):
                batch = [socket.create_connection((host, int(port))) for _ in range(100)]
                held += batch[:1]
                await asyncio.sleep(0.01)
                most = max(most, world.server._doorman.open_count)
                for each in batch[1:]:
                    each.close()
            assert most <= 100
            writer.write(HEALTH)
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        finally:
            for each in held:
                each.close()
        await until(lambda: len(world.server_connections()) <= 2)


async def test_one_address_too_many_is_told_so() -> None:
    async with serving(Limits(connections_per_address_max=2)) as world:
        async with connected(world), connected(world):
            await until(lambda: len(world.server_connections()) == 2)
            (answer,) = answers(await said(world, b""))
            assert (answer.status, answer.problem["code"]) == (503, "unavailable")
            assert answer.headers["retry-after"] == "2"
        await all_gone(world)
        assert answers(await said(world, HEALTH.replace(b"Host", b"Connection: close\r\nHost")))[0].status == 200


async def test_who_is_turned_away_hears_why_though_it_has_asked_already() -> None:
    """A connection that is closed with something unread is reset, and the answer may be lost."""
    async with serving(Limits(connections_per_address_max=2, linger_s=5.0)) as world:
        async with connected(world), connected(world):
            await until(lambda: world.server._doorman.open_count == 2)
            host, port = world.url.removeprefix("http://").split(":")
            answer = await asyncio.to_thread(_ask_at_once, host, int(port))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"which is the bound" in answer


def _ask_at_once(host: str, port: int) -> bytes:
    """All that is answered. Raises when the connection is reset."""
    with socket.create_connection((host, port), timeout=DEADLINE_S) as connection:
        connection.sendall(HEALTH)
        time.sleep(0.1)  # a reset would be here by now
        pieces = []
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
        return b"".join(pieces)
