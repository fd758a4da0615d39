"""Readers at the end of the log: what many get at once, and what is known to go wrong with watches elsewhere.

The names in brackets are etcd's: a watch that resumes where the log was compacted, a progress notification that
overtakes the events before it, a watch that starves while others are served, one that starts in the future.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from typing import Any

import pytest

from kit.clock import SystemClock
from reconciler.core.events import Event
from reconciler.core.filters import ALL
from reconciler.server import fan
from reconciler.server.fan import Fan, Seat
from reconciler.server.limits import Limits
from reconciler.server.ring import Ring, bookmark_line
from tests.twin import SYSTEM, append
from tests.unit.server.readers import Reader, random_readers_and_a_writer, sees_node
from tests.unit.server.test_streams import SMALL, lines_of
from tests.unit.server.world import DEADLINE_S, heard, serving, token_of, until


class Wire:
    """A transport that takes what it is given, or leaves it in its buffer while it is `full`."""

    def __init__(self) -> None:
        self.got = b""
        self.full = False

    def write(self, data: bytes) -> None:
        self.got += data

    def get_write_buffer_size(self) -> int:
        return int(self.full)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.got.splitlines()]

    @property
    def event_ids(self) -> list[int]:
        return [line["event"]["event_id"] for line in self.lines if line["type"] == "change"]

    @property
    def bookmarks(self) -> list[int]:
        return [int(line["cursor"].rpartition(".")[2]) for line in self.lines if line["type"] == "bookmark"]


def event(event_id: int, node_id: str = "node-a", command_id: str = "") -> Event:
    new = heard(node_id, event_id)
    name = command_id or f"c-{event_id}"
    return Event(event_id, "", new.aggregate_type, new.aggregate_id, 1, new.event_type, 1, name, SYSTEM, new.payload)


class Table:
    """A ring, a fan over it, and seats."""

    def __init__(self, events_max: int = 1000) -> None:
        self.ring = Ring("log-1", 0, events_max=events_max, bytes_max=1 << 20)
        self.fan = Fan(SystemClock(), bookmark_line, 1 << 20)

    def add(self, *events: Event) -> None:
        before = self.ring.head
        self.fan.touched(self.ring, self.ring.add(events), before)

    def seat(self, key: str) -> tuple[Seat, Wire, Any]:
        wire: Any = Wire()
        seat = Seat(key, wire, chunked=False, position=self.ring.head)
        return seat, wire, self.fan.seated(seat)


async def test_only_the_seats_of_a_touched_key_are_written_to() -> None:
    table = Table()
    _, a, at_a = table.seat("node:node-a")
    _, b, at_b = table.seat("node:node-b")
    async with at_a, at_b:
        table.add(event(1, "node-a"), event(2, "node-c"))
        assert (a.event_ids, a.bookmarks, b.got) == ([1], [2], b"")


async def test_many_seats_get_the_same_bytes_and_several_changes_share_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan, "SEATS_PER_TURN", 3)
    table = Table()
    seats = [table.seat("node:node-a") for _ in range(10)]
    for _, _, seated in seats:
        await seated.__aenter__()
    for number in range(1, 6):
        table.add(event(number))
    await until(lambda: all(wire.bookmarks[-1:] == [5] for _, wire, _ in seats))
    assert {wire.got for _, wire, _ in seats} == {seats[0][1].got}
    assert seats[0][1].event_ids == [1, 2, 3, 4, 5]
    assert len(seats[0][1].bookmarks) == 1, "one write for all five"
    for _, _, seated in seats:
        await seated.__aexit__(None, None, None)


async def test_a_bookmark_never_overtakes_what_waits_to_be_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """[a progress notification that overtakes events] In the middle of a flush each seat is reminded."""
    monkeypatch.setattr(fan, "SEATS_PER_TURN", 1)
    table = Table()
    seats = [table.seat(ALL) for _ in range(5)]
    for _, _, seated in seats:
        await seated.__aenter__()
    for number in range(1, 40):
        table.add(event(number))
        for seat, wire, _ in seats:
            table.fan.remind(table.ring, seat)
            assert wire.event_ids == list(range(1, wire.bookmarks[-1] + 1))
            assert wire.bookmarks[-1] == number
        await asyncio.sleep(0)
    for _, _, seated in seats:
        await seated.__aexit__(None, None, None)


async def test_a_quiet_seat_is_not_sent_to_the_log_because_others_were_busy() -> None:
    """[a watch that resumes where the log was compacted] The ring has left its position far behind, and it missed
    nothing: nothing of that was for it."""
    table = Table(events_max=10)
    seat, wire, seated = table.seat("node:node-a")
    async with seated:
        for number in range(1, 100):
            table.add(event(number, "node-b"))
        table.add(event(100, "node-a"))
        assert not seat.left.is_set()
        assert (wire.event_ids, wire.bookmarks) == ([100], [100])


async def test_a_seat_whose_events_left_the_ring_before_they_were_flushed_goes_to_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fan, "SEATS_PER_TURN", 0)  # every flush waits for its turn
    table = Table(events_max=10)
    seat, wire, seated = table.seat("node:node-a")
    async with seated:
        table.add(event(1, "node-a"))
        for number in range(2, 50):
            table.add(event(number, "node-b"))
        monkeypatch.setattr(fan, "SEATS_PER_TURN", 1)
        await asyncio.wait_for(seat.left.wait(), DEADLINE_S)
    assert (wire.got, seat.position) == (b"", 0), "it is told nothing, and knows from where to read"


async def test_a_seat_that_does_not_take_what_it_is_given_is_left_and_the_others_are_served() -> None:
    """[a watch that starves]"""
    table = Table()
    slow, slow_wire, at_slow = table.seat(ALL)
    _, wire, at_quick = table.seat(ALL)
    async with at_slow, at_quick:
        slow_wire.full = True
        for number in range(1, 6):
            table.add(event(number))
        assert slow.left.is_set()
        assert (slow.position, slow_wire.event_ids) == (1, [1])
        assert wire.event_ids == [1, 2, 3, 4, 5]


async def test_another_log_empties_every_seat_and_forgets_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan, "SEATS_PER_TURN", 1)
    table = Table()
    seats = [table.seat(ALL) for _ in range(3)]
    for _, _, seated in seats:
        await seated.__aenter__()
    table.add(event(1))
    table.fan.empty()
    assert all(seat.left.is_set() for seat, _, _ in seats)
    table.ring = Ring("log-2", 0, events_max=10, bytes_max=1 << 20)
    fresh, wire, at_fresh = table.seat(ALL)
    async with at_fresh:
        table.add(event(1))
        await until(lambda: wire.bookmarks == [1])
        assert not fresh.left.is_set()
        assert wire.lines[0]["cursor"] == "log-2.1"


@pytest.mark.parametrize("seed", [*range(4), *map(int, os.environ.get("TRUEUP_STREAM_SEEDS", "").split())])
async def test_random_readers_see_exactly_the_filtered_log_when_flushes_take_turns(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle of `test_streams`, with a seat for each turn. TRUEUP_STREAM_SEEDS: more seeds, or one to replay."""
    monkeypatch.setattr(fan, "SEATS_PER_TURN", 1)
    async with serving(SMALL) as world:
        await random_readers_and_a_writer(world, seed, commands=40)


async def test_fifty_readers_of_one_key_that_come_and_go_each_see_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan, "SEATS_PER_TURN", 8)
    limits = Limits(bookmark_every_s=0.02, ring_events_max=200, page_events=50, streams_per_identity_max=64)
    async with serving(limits) as world:
        assert world.session is not None
        session, rng = world.session, random.Random(7)
        readers = [Reader(world.url, token_of("node", "node-a"), "log-1") for _ in range(50)]

        async def read(reader: Reader) -> None:
            while reader.position < 300:
                lines_max = rng.randint(1, 200)
                await reader.connect(session, lines_max=lines_max, finished=lambda: reader.position >= 300)

        reading = [asyncio.create_task(read(reader)) for reader in readers]
        for number in range(300):
            await append(world.log, f"c-{number}", heard("node-a" if rng.random() < 0.5 else "node-b", number))
            await asyncio.sleep(0.001)
        async with asyncio.timeout(30):
            await asyncio.gather(*reading)
        for reader in readers:
            reader.check(world.log.events, sees_node("node-a"))


async def test_the_ring_begins_with_what_came_last_and_at_the_end_of_a_command() -> None:
    """After a restart those who missed little are served from memory; who missed more, whole commands all the same."""
    async with serving(SMALL) as first:
        await append(first.log, "early", *(heard("node-a", number) for number in range(30)))
        await append(first.log, "late", *(heard("node-a", number) for number in range(30, 60)))
        async with serving(SMALL, first.log) as second:
            assert second.hub.current_ring().floor == 30
            assert second.hub.current_ring().head == 60
            lines = await lines_of(second, token_of("node", "node-a"), "log-1.0")
            assert [line["type"] for line in lines] == ["hello", *["change"] * 30, "bookmark"]
            assert lines[-1]["cursor"] == "log-1.30"


async def test_too_many_late_readers_are_told_when_to_come_back() -> None:
    limits = Limits(ring_events_max=20, page_events=10, catch_ups_max=1, catch_ups_waiting_max=3, catch_ups_per_s=0.5)
    async with serving(limits) as world:
        for number in range(60):
            await append(world.log, f"c-{number}", heard("node-a", number))
        await until(lambda: world.hub.current_ring().floor > 0 and world.hub.current_ring().head == 60)
        world.log.gate.clear()
        waiting = [
            asyncio.create_task(lines_of(world, token_of("node", f"node-{number}"), "log-1.0")) for number in range(3)
        ]
        await until(lambda: world.hub._catching_up_count == 3)
        told = []
        for number in range(3, 9):
            token = token_of("node", f"node-{number}")
            status, document, headers = await world.call("GET", "/v1/stream?cursor=log-1.0&wait=0", token)
            assert (status, document["code"]) == (503, "unavailable")
            assert headers["Retry-After"] == str(document["retry_after_seconds"])
            told.append(document["retry_after_seconds"])
        assert 1 <= min(told) <= max(told) <= 1 + 9 / 0.5
        status, _, _ = await world.call("GET", "/v1/stream?cursor=log-1.60&wait=0", token_of("node", "node-z"))
        assert status == 200, "who needs no old events comes in"
        world.log.gate.set()
        for lines in await asyncio.gather(*waiting):
            assert lines[-1]["type"] == "bookmark"
