"""What every controller's change stream does, and what the client makes of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from kit.cursors import CursorFile, CursorInMemory
from kit.errors import Refusal
from kit.stream_batches import Changes, Snapshot
from tests.contracts.small_stream import SmallController
from tests.integration.kit.consumers import OPS, Consumer, consuming
from tests.integration.kit.faulty_proxy import Fault, faulty_proxy
from tests.unit.server.world import enrol_node, serving, until


@dataclass
class Controller:
    """`enrol(node_id)`: a node joins. `restore(log_id)`: the log is another one, and empty."""

    url: str
    enrol: Callable[[str], Awaitable[object]]
    restore: Callable[[str], None]

    @asynccontextmanager
    async def ask(self, **query: str) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Authorization": f"Bearer {OPS}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.get(f"{self.url}/v1/stream", params=query) as answer:
                yield answer


@asynccontextmanager
async def small() -> AsyncIterator[Controller]:
    controller = SmallController()

    async def enrol(node_id: str) -> None:
        controller.enrol(node_id)

    async with TestServer(controller.application()) as server:
        yield Controller(str(server.make_url("")).rstrip("/"), enrol, controller.restore)


@asynccontextmanager
async def real() -> AsyncIterator[Controller]:
    async with serving() as world:

        def restore(log_id: str) -> None:
            world.log.become_another(log_id)
            world.views.begin_anew()

        yield Controller(world.url, lambda node_id: enrol_node(world.log, node_id), restore)


@pytest.fixture(params=[small, real])
async def controller(request: pytest.FixtureRequest) -> AsyncIterator[Controller]:
    async with request.param() as running:
        for node_id in ("node-a", "node-b"):
            await running.enrol(node_id)
        yield running


async def next_lines(answer: aiohttp.ClientResponse, *kinds: str) -> list[dict[str, Any]]:
    """The next lines, of these types; bookmarks that come because of time are passed over."""
    found: list[dict[str, Any]] = []
    while len(found) < len(kinds):
        line = json.loads(await answer.content.readline())
        if line["type"] == "bookmark" and kinds[len(found)] != "bookmark":
            continue
        assert line["type"] == kinds[len(found)], line
        found.append(line)
    return found


async def test_a_snapshot_is_followed_by_what_comes_behind_it(controller: Controller) -> None:
    async with controller.ask(snapshot="1") as answer:
        hello, a, b, bookmark = await next_lines(answer, "hello", "row", "row", "bookmark")
        assert hello["log_id"] == "log-1"
        assert [(row["view"], row["key"], row["doc"]["node_id"]) for row in (a, b)] == [
            ("nodes", "node-a", "node-a"),
            ("nodes", "node-b", "node-b"),
        ]
        assert bookmark["cursor"] == "log-1.2"
        await controller.enrol("node-c")
        change, behind = await next_lines(answer, "change", "bookmark")
        assert (change["cursor"], change["event"]["aggregate_id"]) == ("log-1.3", "node-c")
        assert behind["cursor"] == "log-1.3"


async def test_a_long_poll_of_a_snapshot_ends_with_its_bookmark(controller: Controller) -> None:
    async with controller.ask(snapshot="1", wait="5") as answer:
        lines = [json.loads(line) for line in (await answer.read()).splitlines()]
    assert [line["type"] for line in lines] == ["hello", "row", "row", "bookmark"]


async def test_without_a_cursor_it_begins_now(controller: Controller) -> None:
    async with controller.ask() as answer:
        [hello] = await next_lines(answer, "hello")
        assert hello["cursor"] == "log-1.2"
        await controller.enrol("node-c")
        [change] = await next_lines(answer, "change")
        assert change["cursor"] == "log-1.3"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"cursor": "log-2.1"}, 410, "cursor_invalid"),
        ({"cursor": "log-1.3"}, 410, "cursor_invalid"),
        ({"cursor": "log-1.1", "snapshot": "1"}, 400, "invalid_argument"),
    ],
)
async def test_what_cannot_be_gone_on_from_is_refused(
    controller: Controller, query: dict[str, str], status: int, code: str
) -> None:
    async with controller.ask(**query) as answer:
        problem = await answer.json(content_type=None)
    assert (answer.status, problem["code"]) == (status, code)


async def test_the_client_gets_what_there_is_and_then_each_change(controller: Controller) -> None:
    consumer, store = Consumer(), CursorInMemory()
    async with consuming(controller.url, consumer, store=store, snapshots=True):
        await until(lambda: store.cursor == "log-1.2")
        await controller.enrol("node-c")
        await until(lambda: store.cursor == "log-1.3")
    [snapshot] = consumer.snapshots
    assert [row["key"] for row in snapshot.rows] == ["node-a", "node-b"]
    assert [event["aggregate_id"] for changes in consumer.calls for event in changes.events] == ["node-c"]
    async with consuming(controller.url, consumer, store=store, snapshots=True):
        await controller.enrol("node-d")
        await until(lambda: store.cursor == "log-1.4")
    assert len(consumer.snapshots) == 1, "who has a cursor needs none"


async def test_a_log_that_was_restored_leads_to_a_new_snapshot(controller: Controller) -> None:
    consumer, store = Consumer(), CursorInMemory()
    async with consuming(controller.url, consumer, store=store, snapshots=True):
        await until(lambda: store.cursor == "log-1.2")
        controller.restore("log-2")
        await controller.enrol("node-z")
        await until(lambda: store.cursor.startswith("log-2."))
        await controller.enrol("node-y")
        await until(lambda: store.cursor == "log-2.2")
    known = {row["key"] for row in consumer.snapshots[1].rows}
    known |= {event["aggregate_id"] for changes in consumer.calls for event in changes.events}
    assert known == {"node-z", "node-y"}


async def test_an_unusable_cursor_file_leads_to_a_new_snapshot(controller: Controller, tmp_path: Path) -> None:
    consumer, path = Consumer(), tmp_path / "cursor"
    path.write_text('{"cursor": "log-')
    async with consuming(controller.url, consumer, store=CursorFile(path, {}), snapshots=True):
        await until(lambda: consumer.snapshots)
    assert CursorFile(path, {}).read() == "log-1.2"


async def test_a_snapshot_that_breaks_in_the_middle_is_read_again(controller: Controller) -> None:
    for number in range(50):
        await controller.enrol(f"node-{number}")
    async with faulty_proxy(controller.url) as proxy:
        proxy.faults = [Fault("reset", 3_000), Fault("cut", 1_000), Fault("buffer")]
        consumer, store = Consumer(), CursorInMemory()
        async with consuming(proxy.url, consumer, store=store, snapshots=True):
            await until(lambda: store.cursor == "log-1.52")
        assert len(proxy.requests) >= 3
    [snapshot] = consumer.snapshots
    assert len(snapshot.rows) == 52


async def test_who_wants_no_snapshot_begins_now_or_is_told(controller: Controller) -> None:
    consumer, store = Consumer(), CursorInMemory()
    with pytest.raises(Refusal) as refused:
        async with consuming(controller.url, consumer, store=store) as following:
            await until(lambda: store.cursor == "log-1.2")
            await controller.enrol("node-c")
            await until(lambda: store.cursor == "log-1.3")
            controller.restore("log-2")
            await following
    assert refused.value.code == "cursor_invalid"
    assert store.cursor == "log-1.3"


@pytest.mark.parametrize("in_snapshot", [True, False])
async def test_what_the_consumer_raises_ends_it_before_the_cursor(controller: Controller, in_snapshot: bool) -> None:
    """Even when it looks like trouble with the network."""
    store = CursorInMemory("" if in_snapshot else "log-1.0")
    consumer = Broken()
    with pytest.raises(ConnectionResetError, match="of the consumer"):
        async with consuming(controller.url, consumer, store=store, snapshots=True) as following:
            await following
    assert store.cursor == ("" if in_snapshot else "log-1.0")


class Broken(Consumer):
    async def on_snapshot(self, snapshot: Snapshot) -> None:
        raise ConnectionResetError("of the consumer")

    async def on_changes(self, changes: Changes) -> None:
        raise ConnectionResetError("of the consumer")
