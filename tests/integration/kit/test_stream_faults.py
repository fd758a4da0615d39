"""A real controller's stream through a proxy that breaks it: everything comes, in order, and once."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise

import pytest

from kit.backoff import Backoff
from kit.control_plane import ControlPlane
from kit.cursors import CursorInMemory
from kit.follow import follow_plan
from kit.stream_course import Pace
from reconciler.server.limits import Limits
from tests.integration.kit.consumers import QUICK, Consumer, consuming, until_seen, write
from tests.integration.kit.faulty_proxy import Fault, Kind, faulty_proxy
from tests.twin import append
from tests.unit.server.world import enrol_node, heard, serving, token_of, until

SMALL = Limits(stream_chunk_bytes_max=2_000, bookmark_every_s=0.1, streams_per_identity_max=64)
KINDS: tuple[Kind, ...] = ("cut", "reset", "half_open", "delay", "bad_gateway", "log_in_page")


@pytest.mark.parametrize("kind", KINDS)
async def test_after_each_fault_everything_has_come_once(kind: Kind) -> None:
    """At any byte: in the head of the answer, within a line, between the lines of a command, and late."""
    rng = random.Random(kind)
    places = (0, 100, 420, *(rng.randrange(10_000) for _ in range(1 if kind == "half_open" else 12)))
    async with serving(SMALL) as world, faulty_proxy(world.url) as proxy:
        consumer = Consumer()
        proxy.faults = [Fault(kind, after) for after in places]
        await write(world.log, rng, 20)
        async with consuming(proxy.url, consumer):
            await write(world.log, rng, 40)
            await until_seen(consumer, world.log)
            while proxy.faults:
                proxy.cut_all()
                await write(world.log, rng, 2)
                await until_seen(consumer, world.log)
        consumer.check(world.log)


@pytest.mark.parametrize("seed", range(3))
async def test_any_mixture_of_faults(seed: int) -> None:
    rng = random.Random(seed)
    async with serving(SMALL) as world, faulty_proxy(world.url) as proxy:
        consumer = Consumer(pause_s=0.001)
        kinds: tuple[Kind, ...] = (*KINDS, "buffer", "pass", "pass", "cut", "reset")
        proxy.faults = [Fault(rng.choice(kinds), rng.randrange(20_000)) for _ in range(25)]
        async with consuming(proxy.url, consumer):
            await write(world.log, rng, 150)
            await until_seen(consumer, world.log)
        consumer.check(world.log)
        assert len(proxy.faults) < 25


async def test_where_a_proxy_buffers_the_long_poll_is_chosen_and_later_the_stream_again() -> None:
    async with serving(SMALL) as world, faulty_proxy(world.url) as proxy:
        consumer, rng = Consumer(), random.Random(1)
        proxy.otherwise = Fault("buffer")
        await write(world.log, rng, 5)
        async with consuming(proxy.url, consumer):
            await until_seen(consumer, world.log)
            assert [each.polls for each in proxy.requests[:2]] == [False, True], "one silent stream is enough"
            for _ in range(20):
                await write(world.log, rng, 1)
                await until_seen(consumer, world.log)
            await until(lambda: proxy.streams >= 2)
            proxy.otherwise = Fault()
            proxy.cut_all()
            await until(lambda: not proxy.requests[-1].polls)
            await write(world.log, rng, 5)
            await until_seen(consumer, world.log)
            polls = proxy.polls
            started_s = time.monotonic()
            while time.monotonic() - started_s < 3 * QUICK.polling_s:
                await write(world.log, rng, 1)
                await until_seen(consumer, world.log)
                await asyncio.sleep(0.02)
            assert proxy.polls == polls, "the stream is kept as long as it is good"
        consumer.check(world.log)


async def test_a_plan_is_followed_through_a_proxy_that_buffers() -> None:
    async with serving(SMALL) as world, faulty_proxy(world.url) as proxy:
        proxy.otherwise = Fault("buffer")
        await enrol_node(world.log, "node-a")
        generations: list[int] = []

        async def on_plan(plan: dict[str, int]) -> None:
            generations.append(plan["generation"])

        stop = asyncio.Event()
        async with ControlPlane(proxy.url, token_of("node", "node-a")) as control_plane:
            path = "/v1/nodes/node-a/plan"
            following = asyncio.create_task(follow_plan(control_plane, path, dict, on_plan, stop, pace=QUICK))
            try:
                for number in range(5):
                    event_id = await append(world.log, f"c{number}", heard("node-a", number))
                    await until(lambda event_id=event_id: generations[-1:] >= [event_id])
            finally:
                stop.set()
                await following
        assert proxy.polls > 0


async def test_whoever_is_told_when_to_come_back_does_not_come_before() -> None:
    """By a real controller that has no room for those who need old events. Each has a cursor of its own."""
    limits = Limits(catch_ups_waiting_max=0, catch_ups_max=1, ring_events_max=10, ring_start_events=1, page_events=10)
    pace = Pace(backoff=Backoff(0.001, 0.002))
    async with serving(limits) as world, faulty_proxy(world.url) as proxy:
        for number in range(50):
            await append(world.log, f"c{number}", heard("node-a", number))

        async def one(number: int) -> None:
            store = CursorInMemory(f"log-1.{number}")
            async with consuming(
                proxy.url, Consumer(), token=token_of("operator", f"{number}"), store=store, pace=pace
            ):
                await until(lambda: len(proxy.requests) >= 2 * 30)

        await asyncio.gather(*(one(number) for number in range(30)))
        asked = sorted(proxy.requests, key=lambda each: (each.path, each.at_s))
        came_back_s = [later.at_s - first.at_s for first, later in pairwise(asked) if first.path == later.path]
        assert len(came_back_s) >= 30
        assert min(came_back_s) >= 1
        assert max(came_back_s) - min(came_back_s) > 0.5, "and not all at once"
