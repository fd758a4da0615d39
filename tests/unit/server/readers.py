"""A reader of the change stream that checks, line by line, what a stream promises."""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from reconciler.core.events import Event, NewEvent
from reconciler.core.filters import keys
from tests.twin import command
from tests.unit.server.world import World, heard, token_of, until

Matches = Callable[[Event], bool]


def sees_node(node_id: str) -> Matches:
    return lambda event: f"node:{node_id}" in keys(event)


def sees_edge(event: Event) -> bool:
    return "edge" in keys(event)


def sees_all(event: Event) -> bool:
    return True


@dataclass
class Reader:
    """`position`: of the last cursor that it kept. `seen`: every event_id it got, in order, over all connections."""

    url: str
    token: str
    log_id: str
    position: int = 0
    seen: list[int] = field(default_factory=list)
    connections: int = 0
    polls: int = 0
    end_reason: str = ""

    async def connect(
        self,
        session: aiohttp.ClientSession,
        *,
        lines_max: int,
        stall_s: Callable[[], float] = lambda: 0.0,
        wait: str = "",
        finished: Callable[[], bool] = lambda: False,
    ) -> None:
        """Reads until `lines_max` lines have come, or it is `finished`, or the server ends it; then drops the
        connection. A long poll is read to its end."""
        self.connections += 1
        query = {"cursor": f"{self.log_id}.{self.position}", **({"wait": wait} if wait else {})}
        headers = {"Authorization": f"Bearer {self.token}"}
        start, here = self.position, list[int]()
        async with session.get(f"{self.url}/v1/stream", params=query, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            first = True
            async for raw in answer.content:
                line = json.loads(raw)
                assert (line["type"] == "hello") == first
                first = False
                self._take(line, start, here)
                lines_max -= 1
                if line["type"] == "end" or (not wait and (lines_max <= 0 or finished())):
                    break
                await asyncio.sleep(stall_s())

    def _take(self, line: dict[str, Any], start: int, here: list[int]) -> None:
        if line["type"] == "end":
            self.end_reason = line["reason"]
            return
        log_id, _, position = line["cursor"].rpartition(".")
        assert log_id == self.log_id
        if line["type"] == "change":
            event_id = line["event"]["event_id"]
            assert event_id == int(position)
            assert event_id > start and (not here or event_id > here[-1]), "once, in order, in one connection"
            here.append(event_id)
            self.seen.append(event_id)
        assert int(position) >= self.position, "a cursor never goes back"
        self.position = int(position)

    def check(self, events: Sequence[Event], matches: Matches) -> None:
        """Everything up to the position that matches, once each, in order, and nothing else."""
        expected = [event.event_id for event in events if event.event_id <= self.position and matches(event)]
        assert self.seen == expected


async def random_reading(
    reader: Reader, session: aiohttp.ClientSession, rng: random.Random, finished: Callable[[], bool]
) -> None:
    """Connects, reads a little, stalls, drops, comes back; now and then by long poll."""
    while not finished() or reader.polls == 0:
        if rng.random() < 0.3:
            reader.polls += 1
            await reader.connect(session, lines_max=1 << 30, wait="0.05")
        else:
            stalls_s = 0.01 if rng.random() < 0.3 else 0.0
            await reader.connect(
                session,
                lines_max=rng.randint(1, 60),
                stall_s=functools.partial(rng.uniform, 0, stalls_s),
                finished=finished,
            )


def some_event(rng: random.Random, number: int) -> NewEvent:
    node_id = rng.choice(["node-a", "node-a", "node-b"])
    match rng.randrange(4):
        case 0:
            return heard(node_id, number)
        case 1:
            name = f"o/p/e{number}/-/environment/e{number}"
            return NewEvent("environment", name, "environment.moved", {"resource_id": name})
        case 2:
            name = f"o/p/prod/site/route/r{number}"
            return NewEvent("route", name, "route.moved", {"resource_id": name})
        case _:
            payload = {
                "instance_id": f"i-{number}", "node_id": node_id, "desired": "stopped", "drain_grace_s": 1.0,
                "reason": "x" * rng.randrange(300), "reason_code": "",
            }  # fmt: skip
            return NewEvent("instance", f"i-{number}", "instance.desired_state_changed", payload)


async def write(world: World, rng: random.Random, commands: int) -> int:
    """Commands of many sizes, in batches. Returns the last event_id."""
    number = 0
    for index in range(commands):
        batch = []
        for part in range(rng.randint(1, 4)):
            size = rng.choice([1, 1, 2, 3, 7, 30])
            events = [some_event(rng, number := number + 1) for _ in range(size)]
            batch.append(command(f"c-{index}-{part}", *events))
        await world.log.append(batch)
        if rng.random() < 0.5:
            await asyncio.sleep(rng.random() * 0.01)
    return int((await world.log.head()).last_event_id)


async def random_readers_and_a_writer(world: World, seed: int, *, commands: int) -> None:
    """Six readers of every kind while somebody writes; at the end each has seen exactly what it may see."""
    assert world.session is not None
    who: list[tuple[str, Matches]] = [
        (token_of("node", "node-a"), sees_node("node-a")),
        (token_of("node", "node-b"), sees_node("node-b")),
        (token_of("node", "node-c"), sees_node("node-c")),
        (token_of("edge", "edge-a"), sees_edge),
        (token_of("operator", "ops"), sees_all),
        (token_of("operator", "ops"), sees_all),
    ]
    log_id = (await world.log.head()).log_id
    readers = [(Reader(world.url, token, log_id), matches) for token, matches in who]
    writing = asyncio.create_task(write(world, random.Random(seed), commands))

    def finished(reader: Reader) -> bool:
        return writing.done() and reader.position == writing.result()

    async with asyncio.timeout(60):
        await asyncio.gather(
            writing,
            *(
                random_reading(
                    reader, world.session, random.Random(f"{seed}{index}"), functools.partial(finished, reader)
                )
                for index, (reader, _) in enumerate(readers)
            ),
        )
    everything = await world.log.read(0, limit=10_000)
    for reader, matches in readers:
        reader.check(everything, matches)
    assert sum(len(reader.seen) for reader, _ in readers) > 300
    assert len(everything) == writing.result()
    await until(lambda: world.streams.open_count == 0)
