"""S10: a reader that takes nothing is cut off, and told why: at once if it takes again, else when it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from reconciler.core.permission import Identity
from reconciler.server import slow_readers
from reconciler.server.limits import Limits
from reconciler.server.slow_readers import SlowReaders
from tests.twin import append
from tests.unit.server.test_streams import lines_of
from tests.unit.server.world import World, heard, long_event, serving, token_of, until

NODE = token_of("node", "node-a")
IMPATIENT = Limits(
    stream_stall_s=0.4, bookmark_every_s=0.2, stream_goodbye_s=0.2, stream_sndbuf_bytes=8192, page_events=50
)
PATIENT = Limits(
    stream_stall_s=0.4, bookmark_every_s=0.2, stream_goodbye_s=9.0, stream_sndbuf_bytes=8192, page_events=50
)


@contextlib.asynccontextmanager
async def stalled(world: World, query: str = "cursor=log-1.0") -> AsyncIterator[socket.socket]:
    """A reader that has asked, and takes nothing of what there is for it."""
    for number in range(80):
        payload = {"node_id": "node-a", "filler": "x" * 10_000}
        await append(world.log, f"c{len(world.log.events)}", long_event(number, payload))
    async with asking(world, NODE, query) as slow:
        yield slow


@contextlib.asynccontextmanager
async def asking(world: World, token: str, query: str) -> AsyncIterator[socket.socket]:
    host, port = world.url.removeprefix("http://").split(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, (host, int(port)))
        head = f"GET /v1/stream?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        await loop.sock_sendall(slow, head.encode())
        yield slow


async def test_who_was_cut_off_is_told_once_when_it_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(IMPATIENT) as world:
        async with stalled(world):
            await until(lambda: world.streams.document()["cut_off"] == 1)
            await until(lambda: world.streams.open_count == 0)
        assert "slow reader cut off" in caplog.text
        other = await lines_of(world, token_of("node", "node-b"))
        assert "cut_off" not in other[0], "it was not that one"
        first, again = [(await lines_of(world, NODE))[0] for _ in range(2)]
        assert (first["cut_off"], "cut_off" in again) == ("slow_reader", False)
        assert (await world.get("/v1/status"))["streams"] == {"open": 0, "cut_off": 1}


async def test_who_takes_again_in_the_last_moment_is_told_why_it_ends() -> None:
    async with serving(PATIENT) as world:
        async with stalled(world) as slow:
            await until(lambda: world.streams.document()["cut_off"] == 1)
            loop, taken = asyncio.get_running_loop(), bytearray()
            async with asyncio.timeout(9):
                while b'"end"' not in taken:
                    piece = await loop.sock_recv(slow, 65536)
                    assert piece, "the last line came before the connection was closed"
                    taken += piece
        assert b'{"type":"end","reason":"slow_reader"}' in taken
        assert b'"type":"bookmark"' in taken


async def test_a_reader_that_takes_nothing_of_its_snapshot_is_cut_off_and_its_place_is_free() -> None:
    async with serving(replace(IMPATIENT, snapshots_max=1)) as world:
        await append(world.log, "node", *(heard("node-a", number) for number in range(3)))
        big = {"resource_id": "o/p/e/a/app/a", "spec": {"processes": {}, "filler": "x" * 3_000_000}}
        world.views._rows["resources"]["o/p/e/a/app/a"] = {
            "org": "o",
            "project": "p",
            "env": "e",
            "app": "a",
            "kind": "app",
            **big,
        }
        operator = token_of("operator", "ops")
        async with asking(world, operator, "snapshot=1"):
            await until(lambda: world.streams.document()["cut_off"] == 1)
            await until(lambda: world.streams.open_count == 0)
        status, body, _ = await world.call("GET", "/v1/stream?snapshot=1&wait=0&kind=node", operator)
        assert (status, json.loads(body.splitlines()[0])["cut_off"]) == (200, "slow_reader")


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_s(self) -> float:
        return self.at_s


def test_it_is_remembered_for_minutes_and_of_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_readers, "REMEMBERED_MAX", 2)
    clock: Any = Hands()
    slow = SlowReaders(clock)
    who = [Identity("node", f"node-{number}") for number in range(4)]
    for each in who[:3]:
        slow.cut_off(each)
    assert [slow.why(each) for each in who] == ["", "slow_reader", "slow_reader", ""]
    slow.cut_off(who[3])
    clock.at_s += slow_readers.REMEMBERED_S + 1
    assert (slow.why(who[3]), slow.count) == ("", 4)
