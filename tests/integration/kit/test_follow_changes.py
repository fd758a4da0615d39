"""What `follow_changes` makes of each kind of line, of slow consumers, and of being stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kit.control_plane import ControlPlane
from kit.cursors import CursorInMemory
from kit.errors import Refusal
from kit.follow_changes import follow_changes
from kit.stream_batches import Changes
from reconciler.core.events import NewEvent
from reconciler.server.limits import Limits
from tests.integration.kit.consumers import OPS, QUICK, Consumer, consuming, until_seen
from tests.twin import append
from tests.unit.server.world import heard, serving, token_of, until


def change(number: int, command: str) -> dict[str, Any]:
    return {"type": "change", "cursor": f"log-1.{number}", "event": {"event_id": number, "command_id": command}}


HELLO = {"type": "hello", "log_id": "log-1", "cursor": "log-1.0"}
END = {"type": "end", "reason": "draining"}


@dataclass
class Script:
    """Answers each request with the next of `answers`, then with bookmarks. `cursors`: that were asked with."""

    answers: list[Sequence[Any]]
    cursors: list[str] = field(default_factory=list)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        self.cursors.append(request.query.get("cursor", ""))
        answer = web.StreamResponse()
        await answer.prepare(request)
        if self.answers:
            for line in self.answers.pop(0):
                await answer.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
            return answer
        while True:
            await answer.write(json.dumps({"type": "bookmark", "cursor": self.cursors[-1]}).encode() + b"\n")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def scripted(*answers: Sequence[Any]) -> AsyncIterator[tuple[Script, str]]:
    script, app = Script(list(answers)), web.Application()
    app.router.add_get("/v1/stream", script.stream)
    async with TestServer(app) as server:
        yield script, str(server.make_url("")).rstrip("/")


async def test_a_command_whose_bookmark_did_not_come_is_asked_for_again() -> None:
    first = [HELLO, change(1, "a"), change(2, "b"), change(3, "b")]
    second = [HELLO, change(2, "b"), change(3, "b"), change(4, "b"), {"type": "bookmark", "cursor": "log-1.4"}]
    async with scripted(first, second) as (script, url):
        consumer = Consumer()
        async with consuming(url, consumer):
            await until(lambda: len(script.cursors) == 3)
    assert [[event["event_id"] for event in changes.events] for changes in consumer.calls] == [[1], [2, 3, 4]]
    assert script.cursors == ["log-1.0", "log-1.1", "log-1.4"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"7\n",
        b"[]\n",
        b"{}\n",
        b'{"type": 7}\n',
        b'{"type": "change", "cursor": "log-1.2"}\n',
        b'{"type": "bookmark"}\n',
        b"\xff\n",
        b'{"type": "boo',
        b"x" * (9 << 20) + b"\n",
    ],
    ids=lambda each: repr(each[:20]),
)
async def test_what_is_no_line_is_a_connection_that_broke(garbage: bytes) -> None:
    bookmark = {"type": "bookmark", "cursor": "log-1.1"}
    async with scripted([HELLO, change(1, "a"), bookmark, garbage, change(9, "x")]) as (script, url):
        consumer, store = Consumer(), CursorInMemory("log-1.0")
        async with consuming(url, consumer, store=store):
            await until(lambda: len(script.cursors) == 2)
    assert consumer.seen == [1]
    assert script.cursors[1] == store.cursor == "log-1.1"


async def test_lines_and_fields_of_later_versions_are_passed_over() -> None:
    later = [{"type": "weather", "sun": True}, {**change(1, "a"), "more": 1}, {"type": "row", "view": "x", "key": "y"}]
    async with scripted([HELLO, *later, {"type": "bookmark", "cursor": "log-1.1"}, END]) as (script, url):
        consumer = Consumer()
        async with consuming(url, consumer):
            await until(lambda: len(script.cursors) == 2)
    assert consumer.seen == [1]


async def test_that_it_was_cut_off_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted([{**HELLO, "cut_off": "slow_reader"}, END]) as (script, url):
        async with consuming(url, Consumer()):
            await until(lambda: len(script.cursors) == 2)
    assert "cut this reader off" in caplog.text


async def test_a_slow_consumer_is_cut_off_and_goes_on_where_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """30 MB for one that stands still: more than all buffers hold."""
    limits = Limits(stream_stall_s=0.3, bookmark_every_s=0.1)
    async with serving(limits) as world:
        consumer = Stalled()
        for number in range(60):
            payload = {**heard("node-a", number).payload, "resource_id": "x" * 25_000}
            events = [NewEvent("volume", f"v{number}-{index}", "volume.placed", payload) for index in range(20)]
            await append(world.log, f"c{number}", *events)
        async with consuming(world.url, consumer):
            await until(lambda: "slow reader cut off" in caplog.text)
            consumer.go_on.set()
            await until_seen(consumer, world.log)
        consumer.check(world.log)
        assert "cut this reader off before" in caplog.text


@dataclass
class Stalled(Consumer):
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def on_changes(self, changes: Changes) -> None:
        await self.go_on.wait()
        self.calls.append(changes)


async def test_a_call_that_has_begun_is_waited_for_when_it_is_stopped() -> None:
    async with serving() as world:
        consumer, store, stop = Stalled(), CursorInMemory("log-1.0"), asyncio.Event()
        await append(world.log, "one", heard("node-a", 1))
        async with ControlPlane(world.url, OPS) as control_plane:
            following = asyncio.create_task(
                follow_changes(control_plane, {}, None, consumer.on_changes, store, stop, pace=QUICK)
            )
            await until(lambda: world.streams.open_count == 1)
            await asyncio.sleep(0.05)
            stop.set()
            await asyncio.sleep(0.05)
            assert not following.done()
            consumer.go_on.set()
            await asyncio.wait_for(following, 5)
            assert (consumer.seen, store.cursor) == ([1], "log-1.1")
        await until(lambda: world.streams.open_count == 0)


@pytest.mark.parametrize("token", ["operator:ops:bad", token_of("webhook", "main")])
async def test_who_may_not_follow_is_told_at_once(token: str) -> None:
    async with serving() as world:
        with pytest.raises(Refusal, match=r"401|403"):
            async with consuming(world.url, Consumer(), token=token) as following:
                await asyncio.wait_for(following, 5)
