"""What is known to have gone wrong with etcd's watches, each as a case of its own against this stream.

The numbers are issues of etcd-io/etcd.
[compacted] a watch that begins where the log is compacted loses an event (18089, 19179). Here nothing is compacted, but
the ring forgets: its floor is where memory ends and the database begins.
[overtaken] a progress notification is not in step with the events before it (15220). `test_fan` has the flush.
[starved] a watch that is behind gets nothing for minutes, then loses what was compacted meanwhile (17529).
[created] watches that are made quickly one after the other lose events (20655).
[future] a watch from beyond the head is taken as one from now on, and nobody notices what it misses.
[cancelled] a slow watch is ended, and what was queued for it counts as seen.
[fragmented] the events of one transaction come in two parts, and who resumes between them loses the second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import replace
from typing import Any

import pytest

from reconciler.server.ending import Ending
from reconciler.server.following import Following
from tests.twin import append
from tests.unit.server.readers import Reader, sees_node
from tests.unit.server.test_fan import Table, event
from tests.unit.server.test_slow_readers import IMPATIENT, stalled
from tests.unit.server.test_streams import SMALL, lines_of
from tests.unit.server.world import DEADLINE_S, World, heard, serving, token_of, until

NODE = token_of("node", "node-a")
OPERATOR = token_of("operator", "ops")


async def filled(world: World, count: int) -> int:
    """The floor of the ring, once all is in it."""
    for number in range(count):
        await append(world.log, f"c-{number}", heard("node-a" if number % 3 else "node-b", number))
    await until(lambda: world.hub.current_ring().head == len(world.log.events))
    return int(world.hub.current_ring().floor)


@pytest.mark.parametrize("beside", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("query", [{}, {"org": "o"}], ids=["node", "people"])
async def test_compacted_a_reader_resumes_exactly_at_the_floor(beside: int, query: dict[str, str]) -> None:
    """[compacted] One event on either side of it: from memory or from the database, it is the same."""
    async with serving(SMALL) as world:
        assert world.session is not None
        floor = await filled(world, 100)
        assert 0 < floor < 98
        token = OPERATOR if query else NODE
        reader = Reader(world.url, token, "log-1", position=floor + beside, query=query)
        async with asyncio.timeout(DEADLINE_S):
            await reader.connect(world.session, lines_max=1 << 30, finished=lambda: reader.position >= 100)
        wanted = [each.event_id for each in world.log.events if query or each.payload["node_id"] == "node-a"]
        assert reader.seen == [event_id for event_id in wanted if event_id > floor + beside]


async def test_compacted_a_reader_waits_at_the_floor_while_it_moves() -> None:
    """[compacted] Its position is the floor when it begins to read, and left behind before it has."""
    async with serving(SMALL) as world:
        floor = await filled(world, 100)
        following = Following(world.hub, "node:node-a", floor, Ending())
        await filled_more(world, 100)
        assert world.hub.current_ring().floor > floor
        seen: list[int] = []
        while following.position < len(world.log.events):
            data = await following.next_piece()
            seen += [line["event"]["event_id"] for line in map(json.loads, data.splitlines()) if "event" in line]
        mine = [each.event_id for each in world.log.events if sees_node("node-a")(each)]
        assert seen == [event_id for event_id in mine if event_id > floor]


async def filled_more(world: World, count: int) -> None:
    for number in range(count):
        await append(world.log, f"more-{number}", heard("node-a" if number % 2 else "node-b", 1000 + number))
    await until(lambda: world.hub.current_ring().head == len(world.log.events))


@pytest.mark.parametrize("token", [NODE, OPERATOR], ids=["filtered", "everything"])
async def test_overtaken_no_bookmark_says_more_than_was_sent(token: str) -> None:
    """[overtaken] Behind the ring, across it and at the end: what a bookmark covers has been sent before it."""
    async with serving(replace(SMALL, bookmark_every_s=0.01)) as world:
        assert world.session is not None
        await filled(world, 100)
        writing = asyncio.create_task(filled_more(world, 60))
        headers = {"Authorization": f"Bearer {token}"}
        sent: list[int] = []
        async with world.session.get(f"{world.url}/v1/stream?cursor=log-1.0", headers=headers) as answer:
            async with asyncio.timeout(DEADLINE_S):
                async for raw in answer.content:
                    line = json.loads(raw)
                    if line["type"] == "change":
                        sent.append(line["event"]["event_id"])
                    if line["type"] == "bookmark":
                        upto = int(line["cursor"].partition(".")[2])
                        whole = [e.event_id for e in world.log.events[:upto] if token == OPERATOR or mine(e)]
                        assert sent == whole
                        if upto == 160:
                            break
        await writing


def mine(each: Any) -> bool:
    return bool(each.payload["node_id"] == "node-a")


async def test_starved_a_late_reader_advances_while_others_keep_the_server_busy() -> None:
    """[starved] A reader a thousand events behind, and a writer that does not stop until it has caught up."""
    async with serving(SMALL) as world:
        assert world.session is not None
        await filled(world, 1000)
        late = Reader(world.url, NODE, "log-1")
        busy = Reader(world.url, OPERATOR, "log-1", position=1000)
        over = asyncio.Event()

        async def write() -> None:
            number = 2000
            while not over.is_set():
                await append(world.log, f"busy-{number}", heard("node-b", number))
                number += 1
                await asyncio.sleep(0)

        writing = asyncio.create_task(write())
        reading = asyncio.create_task(busy.connect(world.session, lines_max=1 << 30, finished=over.is_set))
        async with asyncio.timeout(DEADLINE_S):
            await late.connect(world.session, lines_max=1 << 30, finished=lambda: late.position >= 1000)
        over.set()
        await asyncio.gather(writing, reading)
        late.check(world.log.events, sees_node("node-a"))
        assert busy.seen, "nor did the other one starve"


async def test_created_readers_that_come_all_the_time_lose_nothing() -> None:
    """[created] Twenty of them, each for two lines at a time, while events are appended."""
    async with serving(replace(SMALL, streams_per_identity_max=64)) as world:
        assert world.session is not None
        session, readers = world.session, [Reader(world.url, NODE, "log-1") for _ in range(20)]

        async def come_and_go(reader: Reader) -> None:
            while reader.position < 150:
                await reader.connect(session, lines_max=2, finished=lambda: reader.position >= 150)

        reading = [asyncio.create_task(come_and_go(reader)) for reader in readers]
        await filled(world, 150)
        async with asyncio.timeout(30):
            await asyncio.gather(*reading)
        for reader in readers:
            reader.check(world.log.events, sees_node("node-a"))
            assert reader.connections > 10


@pytest.mark.parametrize("beyond", [1, 1000])
async def test_future_a_cursor_beyond_the_head_is_refused_and_no_event_is_lost(beyond: int) -> None:
    """[future]"""
    async with serving(SMALL) as world:
        head = await filled(world, 10) + 10
        status, problem, _ = await world.call("GET", f"/v1/stream?wait=0&cursor=log-1.{head + beyond}", NODE)
        assert (status, problem["code"], problem["cursor"]) == (410, "cursor_invalid", f"log-1.{head}")
        await append(world.log, "next", heard("node-a", 1))
        lines = await lines_of(world, NODE, problem["cursor"], wait="5")
        assert [line["cursor"] for line in lines if line["type"] == "change"] == [f"log-1.{head + 1}"]


async def test_cancelled_a_slow_reader_that_was_cut_off_lost_nothing() -> None:
    """[cancelled] What it has taken is a beginning of its log; from its last cursor on it gets the rest."""
    async with serving(IMPATIENT) as world:
        assert world.session is not None
        async with stalled(world) as slow:
            await until(lambda: world.streams.document() == {"open": 0, "cut_off": 1})
            taken = await all_that_is_left(slow)
        lines = whole_lines(taken)
        got = [line["event"]["event_id"] for line in lines if line["type"] == "change"]
        assert got == list(range(1, len(got) + 1))
        assert len(got) < len(world.log.events)
        reader = Reader(world.url, NODE, "log-1", position=got[-1] if got else 0)
        end = len(world.log.events)
        async with asyncio.timeout(DEADLINE_S):
            await reader.connect(world.session, lines_max=1 << 30, finished=lambda: reader.position >= end)
        assert got + reader.seen == list(range(1, end + 1))


async def all_that_is_left(slow: socket.socket) -> bytes:
    """In the buffers of both kernels. The other end may have gone without a word."""
    taken = bytearray()
    with contextlib.suppress(TimeoutError, ConnectionError):
        while True:
            async with asyncio.timeout(0.5):
                piece = await asyncio.get_running_loop().sock_recv(slow, 65536)
            if not piece:
                break
            taken += piece
    return bytes(taken)


def whole_lines(answer: bytes) -> list[dict[str, Any]]:
    """Of an answer in chunks that was cut off anywhere."""
    _, _, body = answer.partition(b"\r\n\r\n")
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        data += body[: int(size or b"0", 16)]
        body = body[int(size or b"0", 16) + 2 :]
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


async def test_cancelled_a_seat_that_is_left_knows_what_it_was_given() -> None:
    """[cancelled] The position of a seat never counts what did not reach the transport."""
    table = Table()
    seat, wire, seated = table.seat("node:node-a")
    async with seated:
        table.add(event(1))
        wire.full = True
        table.add(event(2))
        table.add(event(3))
    assert seat.left.is_set()
    assert wire.event_ids == list(range(1, seat.position + 1)) == [1, 2]


@pytest.mark.parametrize("bound", [1, 500, 1 << 20])
async def test_fragmented_every_cursor_of_a_bookmark_is_the_end_of_a_command(bound: int) -> None:
    """[fragmented] A client that goes on from a bookmark never begins inside a command, small as the pieces are."""
    async with serving(replace(SMALL, stream_chunk_bytes_max=bound)) as world:
        ends = []
        for number, size in enumerate([1, 7, 2, 30, 1, 12]):
            ends.append(await append(world.log, f"c-{number}", *(heard("node-a", n) for n in range(size))))
        position, bookmarks = 0, []
        while position < ends[-1]:
            lines = await lines_of(world, NODE, f"log-1.{position}")
            position = int(str(lines[-1]["cursor"]).partition(".")[2])
            bookmarks.append(position)
        assert set(bookmarks) <= set(ends)
