"""A stop of a real controller process while clients of every kind hang on it: told, served to the end, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from reconciler.core.tokens import make_token
from tests.acceptance.test_two_controllers import Controller, Site, enrolment, exit_code, site, until
from tests.joining import as_machine

__all__ = ["site"]

NOTICE_S = 1.0


def token(controller: Controller) -> str:
    return make_token((controller.site / "a" / "token.key").read_bytes(), "operator", "test")


async def with_node(site: Site, *more: str) -> Controller:
    controller = await site.start("a", *more)
    async with as_machine(controller.state, "node", "node-a") as node:
        await node.post_json("/v1/nodes/node-a/enrol", enrolment())
    return controller


@contextlib.asynccontextmanager
async def knocking(controller: Controller) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = controller.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


def act(controller: Controller, duty: str, key: str) -> tuple[bytes, bytes]:
    """Header and body of an act."""
    body = json.dumps({"reason": "a stop"}).encode()
    head = (
        f"POST /v1/nodes/node-a/{duty} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(controller)}\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode(), body


async def said(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    """The one answer, after which the server closes."""
    text = (await asyncio.wait_for(reader.read(-1), 30)).decode()
    head, _, body = text.partition("\r\n\r\n")
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, json.loads(body)


async def probe(controller: Controller, path: str = "/readyz") -> tuple[int, dict[str, str], Any]:
    async with knocking(controller) as (reader, writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return await said(reader)


async def follow(controller: Controller, started: asyncio.Event, **query: Any) -> list[Any]:
    """All lines of a change stream, or of a long poll, until it ends."""
    found = []
    async with controller.control_plane() as control_plane:
        async with control_plane.lines("/v1/stream", idle_timeout_s=60, **query) as lines:
            started.set()
            async for line in lines:
                found.append(line)
    return found


async def test_everybody_is_told_or_served_and_the_exit_code_is_0(site: Site) -> None:
    controller = await with_node(site, "--http-drain-notice-s", str(NOTICE_S))
    log_id = (await controller.get("/v1/status"))["log_id"]
    cursor = f"{log_id}.{await controller.last_event_id()}"
    streaming, polling = asyncio.Event(), asyncio.Event()
    stream = asyncio.create_task(follow(controller, streaming, cursor=cursor))
    poll = asyncio.create_task(follow(controller, polling, cursor=cursor, wait=30))
    await asyncio.wait_for(streaming.wait(), 30)
    async with (
        knocking(controller) as (at_work, to_work),
        knocking(controller) as (half, to_half),
        knocking(controller) as (idle, to_idle),
    ):
        head, body = act(controller, "disable", "the-act-at-work")
        to_work.write(head + body[:5])
        to_half.write(b"GET /healthz HTTP/1.1\r\nHos")
        to_idle.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await idle.readuntil(b"}")
        stopped_s = time.monotonic()
        controller.signal(signal.SIGTERM)
        status, headers, problem = await until_not_ready(controller)
        assert (status, headers["connection"]) == (503, "close")
        assert "shutting down" in problem["detail"]
        assert (await probe(controller, "/healthz"))[0] == 200, "while the notice lasts it serves"
        lines = await asyncio.wait_for(stream, 30)
        assert lines[-1] == {"type": "end", "reason": "shutdown"}
        assert time.monotonic() - stopped_s >= NOTICE_S * 0.9, "streams end when the notice is over"
        assert (await asyncio.wait_for(poll, 30))[-1]["type"] in ("end", "bookmark")
        status, headers, problem = await probe(controller, "/healthz")
        assert (status, problem["code"], headers["connection"]) == (503, "unavailable", "close")
        assert int(headers["retry-after"]) > 0
        assert await asyncio.wait_for(half.read(), 30) == b"", "who has asked nothing is owed nothing"
        assert b"HTTP" not in await asyncio.wait_for(idle.read(), 30)
        to_work.write(body[5:])
        status, headers, done = await said(at_work)
        assert (status, headers["connection"]) == (200, "close")
    assert await exit_code(controller) == 0
    assert time.monotonic() - stopped_s < 25
    again = await site.start("a")
    ready = asyncio.Event()
    resumed = asyncio.create_task(follow(again, ready, cursor=cursor, wait=1))
    events = [line["event"] for line in await asyncio.wait_for(resumed, 30) if line["type"] == "change"]
    assert done["event_id"] in [event["event_id"] for event in events], "what was answered is there after the restart"


async def until_not_ready(controller: Controller) -> tuple[int, dict[str, str], Any]:
    """At once: the notice lasts a second, and this has half of it."""
    async with asyncio.timeout(NOTICE_S / 2):
        while True:
            found = await probe(controller)
            if found[0] != 200:
                return found


async def test_a_second_signal_ends_it_at_once(site: Site) -> None:
    controller = await with_node(site)
    async with knocking(controller) as (_, writer):
        head, body = act(controller, "disable", "an-act-that-never-ends")
        writer.write(head + body[:5])
        await asyncio.sleep(0.1)
        controller.signal(signal.SIGTERM)
        await until(lambda: _is_draining(controller), controller)
        second_s = time.monotonic()
        controller.signal(signal.SIGINT)
        assert await exit_code(controller) in (130, -signal.SIGINT)
        assert time.monotonic() - second_s < 5, "the act would have had ten seconds"


async def _is_draining(controller: Controller) -> bool:
    return (await probe(controller))[0] == 503


async def test_a_kill_in_the_middle_of_a_stop_loses_nothing_that_was_answered(site: Site) -> None:
    controller = await with_node(site, "--http-drain-notice-s", "5")
    answered: list[str] = []

    async def act_on(name: str) -> None:
        headers = {"Authorization": f"Bearer {token(controller)}"}
        async with aiohttp.ClientSession(controller.url, headers=headers) as session:
            for number in range(10_000):
                duty, key = ("disable", "activate")[number % 2], f"{name}-number-{number}"
                path, sent = f"/v1/nodes/node-a/{duty}", {"Idempotency-Key": key}
                try:
                    async with session.post(path, json={"reason": "x"}, headers=sent) as answer:
                        if answer.status == 200:
                            answered.append((await answer.json())["command_id"])
                except (aiohttp.ClientError, OSError):
                    return

    acting = [asyncio.create_task(act_on(f"operator-{number}")) for number in range(3)]
    await until(lambda: _have(answered, 10), controller)
    controller.signal(signal.SIGTERM)
    await until(lambda: _is_draining(controller), controller)
    enough = len(answered) + 10
    await until(lambda: _have(answered, enough), controller)
    controller.signal(signal.SIGKILL)
    assert await exit_code(controller) == -signal.SIGKILL
    await asyncio.wait_for(asyncio.gather(*acting), 30)
    again = await site.start("a")
    async with again.control_plane() as control_plane:
        found = await control_plane.get_json("/v1/events", event_type="node.duty_changed", limit=1000)
    assert set(answered) <= {event["command_id"] for event in found["events"]}


async def _have(found: list[str], count: int) -> bool:
    return len(found) >= count
