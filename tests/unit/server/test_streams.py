"""The change stream against an oracle that holds the whole log: S1 to S11 of the guarantees."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from kit.wire import InstanceReport
from reconciler.core.events import NewEvent
from reconciler.server.limits import Limits, Rate
from tests.twin import append
from tests.unit.server.readers import Reader, random_readers_and_a_writer, sees_all, sees_edge, sees_node
from tests.unit.server.world import DEADLINE_S, World, heard, long_event, serving, token_of, until

SMALL = Limits(
    ring_events_max=40,
    page_events=15,
    scan_events=15,
    stream_chunk_bytes_max=2_000,
    bookmark_every_s=0.05,
    stream_stall_s=5.0,
    streams_per_identity_max=16,
    stream_rate=Rate(10_000, 10_000),
)
"""Everything is small, so that a few hundred events cross every boundary: page, chunk, ring."""


@pytest.mark.parametrize("seed", range(5))
async def test_random_readers_see_exactly_the_filtered_log(seed: int) -> None:
    async with serving(SMALL) as world:
        await random_readers_and_a_writer(world, seed, commands=40)


async def lines_of(world: World, token: str, cursor: str = "", *, wait: str = "0") -> list[dict[str, object]]:
    query = f"?wait={wait}" + (f"&cursor={cursor}" if cursor else "")
    status, body, _ = await world.call("GET", f"/v1/stream{query}", token)
    assert status == 200, body
    return [json.loads(line) for line in body.splitlines()]


async def test_a_command_is_never_cut_in_two() -> None:
    """However it is read: out of the ring, or out of the log in pages smaller than the command."""
    async with serving(SMALL) as world:
        await append(world.log, "big", *(heard("node-a", n) for n in range(100)))
        for position in (0, 10):
            lines = await lines_of(world, token_of("node", "node-a"), f"log-1.{position}")
            assert [line["type"] for line in lines] == ["hello", *["change"] * (100 - position), "bookmark"]
            assert lines[-1]["cursor"] == "log-1.100"


@pytest.mark.parametrize("query", ["", "?wait=0", "?snapshot=1"])
async def test_proxies_are_told_to_hand_it_on_at_once(query: str) -> None:
    async with serving(SMALL) as world:
        assert world.session is not None
        headers = {"Authorization": f"Bearer {token_of('operator', 'ops')}"}
        async with world.session.get(f"{world.url}/v1/stream{query}", headers=headers) as answer:
            told = [answer.headers[name] for name in ("Content-Type", "X-Accel-Buffering", "Cache-Control")]
    assert told == ["application/x-ndjson", "no", "no-store"]


async def test_a_bookmark_comes_even_if_nothing_matches() -> None:
    async with serving(SMALL) as world:
        reader = Reader(world.url, token_of("node", "node-z"), "log-1")
        assert world.session is not None
        await append(world.log, "one", heard("node-a", 1))
        async with asyncio.timeout(DEADLINE_S):
            await reader.connect(world.session, lines_max=3)
        assert (reader.seen, reader.position) == ([], 1)


async def test_a_long_poll_answers_as_soon_as_something_matches() -> None:
    async with serving(SMALL) as world:
        asking = asyncio.create_task(lines_of(world, token_of("node", "node-a"), "log-1.0", wait="9"))
        await until(lambda: world.streams.open_count == 1)
        await append(world.log, "for b", heard("node-b", 1))
        await append(world.log, "for a", heard("node-a", 2))
        async with asyncio.timeout(5):
            lines = await asking
        assert [(line["type"], line["cursor"]) for line in lines] == [
            ("hello", "log-1.0"),
            ("change", "log-1.2"),
            ("bookmark", "log-1.2"),
        ]


async def test_a_long_poll_that_hears_nothing_ends_with_a_bookmark_of_how_far_it_looked() -> None:
    async with serving(SMALL) as world:
        for number in range(60):
            await append(world.log, f"c{number}", heard("node-b", number))
        lines = await lines_of(world, token_of("node", "node-a"), "log-1.0", wait="0.2")
        assert [(line["type"], line["cursor"]) for line in lines] == [("hello", "log-1.0"), ("bookmark", "log-1.60")]


@pytest.mark.parametrize(
    ("cursor", "status", "code"),
    [
        ("log-1.4", 410, "cursor_invalid"),
        ("log-2.1", 410, "cursor_invalid"),
        ("log-1", 400, "invalid_argument"),
        ("log-1.-1", 400, "invalid_argument"),
        ("log-1.99999999999999999999", 400, "invalid_argument"),
        ("1", 400, "invalid_argument"),
    ],
)
async def test_a_cursor_that_names_no_place_in_this_log_is_refused(cursor: str, status: int, code: str) -> None:
    async with serving(SMALL) as world:
        for number in range(3):
            await append(world.log, f"c{number}", heard("node-a", number))
        found, document, _ = await world.call("GET", f"/v1/stream?cursor={cursor}", token_of("node", "node-a"))
        assert (found, document["code"]) == (status, code)
        if status == 410:
            assert document["cursor"] == "log-1.3"
            assert not document["retryable"]


async def test_a_plan_that_is_ahead_of_the_tail_is_no_reason_to_refuse_its_cursor() -> None:
    async with serving(SMALL) as world:
        await append(world.log, "one", heard("node-a", 1))
        reading = lines_of(world, token_of("node", "node-a"), "log-1.1", wait="0.05")
        assert [line["type"] for line in await reading] == ["hello", "bookmark"]


async def test_a_slow_reader_has_bounded_memory_is_cut_off_and_delays_nobody(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(
        stream_stall_s=1.0,
        bookmark_every_s=0.2,
        stream_chunk_bytes_max=32_768,
        stream_sndbuf_bytes=8192,
        page_events=50,
    )
    async with serving(limits) as world:
        token = token_of("node", "node-a")
        host, port = world.url.removeprefix("http://").split(":")
        loop = asyncio.get_running_loop()
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        await loop.sock_connect(slow, (host, int(port)))
        head = f"GET /v1/stream?cursor=log-1.0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        await loop.sock_sendall(slow, head.encode())
        await until(lambda: world.streams.open_count == 1)
        payload = {"node_id": "node-a", "filler": "x" * 10_000}
        reader = Reader(world.url, token, "log-1")
        assert world.session is not None
        for number in range(300):
            await append(world.log, f"c{number}", long_event(number, payload))
        buffered = [
            connection.transport.get_write_buffer_size()
            for connection in world.server_connections()
            if connection.transport is not None
        ]
        assert max(buffered) < 64 * 1024 + 2 * limits.stream_chunk_bytes_max
        async with asyncio.timeout(DEADLINE_S):
            while len(reader.seen) < 300:
                await reader.connect(world.session, lines_max=400, finished=lambda: len(reader.seen) == 300)
        reader.check(world.log.events, sees_all)
        await until(lambda: world.streams.open_count == 0)
        assert "slow reader cut off" in caplog.text
        slow.close()


async def test_streams_end_with_a_reason_when_the_server_stops() -> None:
    reader = None
    async with serving(SMALL) as world:
        assert world.session is not None
        reader = Reader(world.url, token_of("operator", "ops"), "log-1")
        reading = asyncio.create_task(reader.connect(world.session, lines_max=1 << 30))
        await until(lambda: world.streams.open_count == 1)
        world.hub.close("shutdown")
        await asyncio.wait_for(reading, DEADLINE_S)
    assert reader.end_reason == "shutdown"


async def test_a_log_that_was_restored_ends_every_stream_and_then_refuses_the_cursor() -> None:
    async with serving(SMALL) as world:
        assert world.session is not None
        for number in range(3):
            await append(world.log, f"c{number}", heard("node-a", number))
        reader = Reader(world.url, token_of("operator", "ops"), "log-1")
        reading = asyncio.create_task(reader.connect(world.session, lines_max=1 << 30))
        await until(lambda: reader.position == 3)
        world.log.become_another("log-2")
        await asyncio.wait_for(reading, DEADLINE_S)
        assert reader.end_reason == "log_changed"
        status, document, _ = await world.call("GET", "/v1/stream?cursor=log-1.3", token_of("operator", "ops"))
        assert (status, document["cursor"]) == (410, "log-2.0")


async def test_what_was_read_from_a_log_that_is_gone_meanwhile_is_not_sent() -> None:
    async with serving(SMALL) as world:
        assert world.session is not None
        for number in range(60):
            await append(world.log, f"c{number}", heard("node-a", number))
        await until(lambda: world.hub.current_ring().floor > 0)
        world.log.gate.clear()
        reader = Reader(world.url, token_of("operator", "ops"), "log-1")
        reading = asyncio.create_task(reader.connect(world.session, lines_max=1 << 30))
        await until(lambda: world.log.waiting_at_gate == 1)
        world.log.become_another("log-2")
        await until(lambda: world.hub.current_ring().log_id == "log-2")
        for number in range(5):
            await append(world.log, f"d{number}", heard("node-a", number))
        world.log.gate.set()
        await asyncio.wait_for(reading, DEADLINE_S)
        assert (reader.end_reason, reader.seen, reader.position) == ("log_changed", [], 0)


async def test_the_tail_survives_a_database_that_goes_away() -> None:
    async with serving(SMALL) as world:
        world.log.broken = True
        await append(world.log, "one", heard("node-a", 1))
        await asyncio.sleep(0.05)
        world.log.broken = False
        lines = await lines_of(world, token_of("node", "node-a"), "log-1.0", wait="9")
        assert [line["type"] for line in lines] == ["hello", "change", "bookmark"]


async def test_a_client_that_leaves_frees_its_place_at_once() -> None:
    async with serving(Limits(streams_per_identity_max=1)) as world:
        assert world.session is not None
        headers = {"Authorization": f"Bearer {token_of('node', 'node-a')}"}
        for _ in range(3):
            async with world.session.get(f"{world.url}/v1/stream", headers=headers) as answer:
                assert answer.status == 200
                assert json.loads(await answer.content.readline())["type"] == "hello"
                status, document, _ = await world.call("GET", "/v1/stream?wait=0", token_of("node", "node-a"))
                assert (status, document["code"], document["retry_after_seconds"]) == (429, "too_many_streams", 5)
            await until(lambda: world.streams.open_count == 0)


def test_the_reports_status_is_what_an_edge_hears() -> None:
    """The oracle of this file uses the same filter as the server: at least hold it against the contract's words."""
    status = InstanceReport("i-1", 1, 1, "ready", "").status
    event = NewEvent("instance", "i-1", "instance.status_changed", {"node_id": "node-a", "status": status})
    from reconciler.core.events import Event
    from tests.twin import SYSTEM

    made = Event(1, "", event.aggregate_type, event.aggregate_id, 1, event.event_type, 1, "c", SYSTEM, event.payload)
    assert sees_edge(made)
    assert sees_node("node-a")(made)
    assert not sees_node("node")(made)
