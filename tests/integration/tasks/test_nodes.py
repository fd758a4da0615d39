"""Which nodes are there, by real heartbeats in real Postgres."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest_asyncio

from kit.clock import SystemClock
from kit.wire import Enrolment
from reconciler.store.settings import StoreSettings
from reconciler.store.store import opened_store
from reconciler.tasks.nodes import NodeWatch
from tests.integration.tasks.controller import Controller, eventually, make


@pytest_asyncio.fixture
async def watch(controller: Controller) -> AsyncIterator[NodeWatch]:
    made = NodeWatch(
        controller.handlers,
        controller.store.views,
        controller.store.heartbeats,
        SystemClock(),
        random.Random(1),
        offline_after_s=1.0,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(made.run(stop))
    yield made
    stop.set()
    await task


async def _state(controller: Controller, node_id: str) -> str:
    return str((await controller.rows("nodes"))[node_id]["state"])


async def test_a_silent_node_is_offline_until_it_is_heard_again(controller: Controller, watch: NodeWatch) -> None:
    for number, node_id in enumerate(("node-a", "node-b")):
        subnet = f"fd00:{number:x}::/64"
        await watch.enrol(Enrolment(node_id, subnet, 1 << 30, 1.0, 1 << 30, "age1x", "tcg", "1"))

    async def a_is_offline() -> bool:
        await watch.heard("node-b")
        return await _state(controller, "node-a") == "offline"

    await eventually(a_is_offline, "node-a is offline")
    assert await _state(controller, "node-b") == "active"
    await watch.heard("node-a")

    async def a_is_back() -> bool:
        await watch.heard("node-a")
        await watch.heard("node-b")
        return await _state(controller, "node-a") == "active"

    await eventually(a_is_back, "node-a is active")
    changes = [event.payload["state"] for event in await controller.events("node.state_changed")]
    assert changes == ["offline", "active"]


async def test_a_node_that_never_sent_a_heartbeat_is_missed_too(controller: Controller, watch: NodeWatch) -> None:
    await controller.enrol("node-a")

    async def offline() -> bool:
        return await _state(controller, "node-a") == "offline"

    await eventually(offline, "node-a is offline")


async def test_heartbeats_that_come_to_another_controller_count(
    controller: Controller, watch: NodeWatch, store_settings: StoreSettings
) -> None:
    """`watch` holds the lease; the node only ever talks to the other one."""
    async with opened_store(store_settings) as its_store:
        other = NodeWatch(
            make(its_store).handlers, its_store.views, its_store.heartbeats, SystemClock(), random.Random(1),
            offline_after_s=1.0,
        )  # fmt: skip
        await other.enrol(Enrolment("node-a", "fd00:a::/64", 1 << 30, 1.0, 1 << 30, "age1x", "tcg", "1"))
        begun_s = SystemClock().now_s()
        while SystemClock().now_s() < begun_s + 1.8:
            await other.heard("node-a")
            await asyncio.sleep(0.1)
        assert await controller.events("node.state_changed") == [], "it was heard all the time"
        assert (await controller.store.heartbeats.ages_s())["node-a"] < 1.0

        async def offline() -> bool:
            return await _state(controller, "node-a") == "offline"

        await eventually(offline, "node-a is offline")

        async def back() -> bool:
            await other.heard("node-a")
            return await _state(controller, "node-a") == "active"

        await eventually(back, "node-a is active")


async def test_a_new_term_believes_only_heartbeats_that_it_sees_coming(controller: Controller) -> None:
    """What this controller heard before it held the lease says nothing about now."""
    await controller.enrol("node-a")
    await controller.caught_up()
    fresh = NodeWatch(
        controller.handlers, controller.store.views, controller.store.heartbeats, SystemClock(), random.Random(1),
        offline_after_s=60.0,
    )  # fmt: skip
    await fresh.heard("node-a")
    await controller.handlers.set_node_state("node-a", "offline", "test")
    await controller.caught_up()
    stop = asyncio.Event()
    task = asyncio.create_task(fresh.run(stop))
    await asyncio.sleep(0.3)
    assert await _state(controller, "node-a") == "offline"
    await fresh.heard("node-a")

    async def back() -> bool:
        return await _state(controller, "node-a") == "active"

    await eventually(back, "node-a is active, and at once")
    stop.set()
    await task


async def test_a_controller_that_starts_does_not_call_an_offline_node_active(controller: Controller) -> None:
    await controller.enrol("node-a")
    await controller.caught_up()
    await controller.handlers.set_node_state("node-a", "offline", "test")
    await controller.caught_up()
    fresh = NodeWatch(
        controller.handlers,
        controller.store.views,
        controller.store.heartbeats,
        SystemClock(),
        random.Random(1),
        offline_after_s=60.0,
    )
    for _ in range(3):
        await fresh.look()
    assert await _state(controller, "node-a") == "offline"
