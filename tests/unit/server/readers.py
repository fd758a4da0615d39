"""A reader of the change stream that checks, line by line, what a stream promises."""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from reconciler.core.events import Event, NewEvent
from tests.twin import SYSTEM, command
from tests.unit.projections.samples import new_event
from tests.unit.server.world import World, placed, token_of, until

Tells = Callable[[Event], str]
"""What a reader is told of an event: "change", "removal" or "". Written anew here, so that the server's filters are
held against another hand's."""


def sees_node(node_id: str) -> Tells:
    def tells(event: Event) -> str:
        if event.payload.get("node_id") == node_id:
            return "change"
        return "removal" if event.payload.get("previous_node_id") == node_id else ""

    return tells


def sees_edge(event: Event) -> str:
    wanted = event.aggregate_type in ("instance", "route") and event.event_type != "route.status_changed"
    return "change" if wanted else ""


def sees_all(event: Event) -> str:
    return "change"


def sees_place(**wanted: str) -> Tells:
    """org, project, env, app, kind."""

    def tells(event: Event) -> str:
        path = zip(("org", "project", "env", "app"), path_of(event), strict=False)
        here = {**dict(path), "kind": event.aggregate_type}
        if wanted.items() <= here.items():
            return "change"
        left = event.payload.get("previous_org")
        return "removal" if left and wanted.items() <= {"org": left, "kind": "source"}.items() else ""

    return tells


def path_of(event: Event) -> list[str]:
    payload, kind = event.payload, event.aggregate_type
    if kind in ("source", "revision"):
        return [event.cause.org_id]
    if kind == "suspension":
        return [] if event.aggregate_id.startswith("source/") else event.aggregate_id.split("/")[1:]
    if kind == "quota":
        return event.aggregate_id.split("/")
    path: str = payload.get("app") or payload.get("volume_id") or payload.get("resource_id") or ""
    return path.split("/")[:4] if kind != "token" else []


@dataclass
class Reader:
    """`position`: of the last cursor that it kept. `seen`: every event_id it got, in order, over all connections;
    `removals`: those of them that were told as one."""

    url: str
    token: str
    log_id: str
    position: int = 0
    query: Mapping[str, str] = field(default_factory=dict)
    choose_url: Callable[[], str] | None = None
    """Before each connection, when there are several servers."""
    seen: list[int] = field(default_factory=list)
    removals: list[int] = field(default_factory=list)
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
        url = self.choose_url() if self.choose_url else self.url
        query = {**self.query, "cursor": f"{self.log_id}.{self.position}", **({"wait": wait} if wait else {})}
        headers = {"Authorization": f"Bearer {self.token}"}
        start, here = self.position, list[int]()
        async with session.get(f"{url}/v1/stream", params=query, headers=headers) as answer:
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
        if line["type"] in ("change", "removal"):
            event_id = int(position)
            if line["type"] == "change":
                assert event_id == line["event"]["event_id"]
            else:
                assert set(line) == {"type", "cursor", "aggregate_type", "aggregate_id"}
                self.removals.append(event_id)
            assert event_id > start and (not here or event_id > here[-1]), "once, in order, in one connection"
            here.append(event_id)
            self.seen.append(event_id)
        assert int(position) >= self.position, "a cursor never goes back"
        self.position = int(position)

    def check(self, events: Sequence[Event], tells: Tells) -> None:
        """Everything up to the position that it is to be told, once each, in order, and nothing else."""
        told = {event.event_id: tells(event) for event in events if event.event_id <= self.position}
        assert self.seen == [event_id for event_id, what in told.items() if what]
        assert self.removals == [event_id for event_id, what in told.items() if what == "removal"]


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
    node_id, other = rng.choice([("node-a", "node-b"), ("node-a", ""), ("node-b", "node-a")])
    org, project, env, app = (rng.choice(names) for names in (("o", "o", "q"), ("p", "r"), ("prod", "test"), "ab"))
    path = f"{org}/{project}/{env}/{app}"
    match rng.randrange(7):
        case 0:
            return placed(f"{path}/volume/v{number}", node_id, other)
        case 1:
            name = f"{org}/{project}/e{number}/-/environment/e{number}"
            return new_event("environment.moved", resource_id=name)
        case 2:
            return new_event("route.moved", resource_id=f"{path}/route/r{number}")
        case 3:
            return new_event(
                "source.registered", source_id=f"s{number % 3}", org=org, previous_org=rng.choice(["", "o", "q"])
            )
        case 4:
            return new_event("deployment.status_changed", deployment_id=f"d-{number}", app=f"{path}/app/{app}")
        case 5:
            return new_event("node.state_changed", node_id=node_id)
        case _:
            told = {"instance_id": f"i-{number}", "node_id": node_id, "app": f"{path}/app/{app}"}
            return new_event("instance.desired_state_changed", **told, reason="x" * rng.randrange(300))


async def write(log: Any, rng: random.Random, commands: int) -> int:
    """Commands of many sizes, in batches. Returns the last event_id."""
    number = 0
    for index in range(commands):
        batch = []
        for part in range(rng.randint(1, 4)):
            size = rng.choice([1, 1, 2, 3, 7, 30])
            events = [some_event(rng, number := number + 1) for _ in range(size)]
            batch.append(command(f"c-{index}-{part}", *events, cause=replace(SYSTEM, org_id=rng.choice("oq"))))
        await log.append(batch)
        if rng.random() < 0.5:
            await asyncio.sleep(rng.random() * 0.01)
    return int((await log.head()).last_event_id)


def some_readers() -> list[tuple[str, dict[str, str], Tells]]:
    places: list[dict[str, str]] = [
        {"org": "o"},
        {"org": "q", "kind": "source"},
        {"kind": "instance"},
        {"org": "o", "project": "p"},
        {"org": "o", "project": "p", "app": "a"},
        {"org": "o", "project": "r", "env": "prod", "kind": "instance"},
        {"org": "o", "project": "p", "env": "test", "app": "b"},
    ]
    operator = token_of("operator", "ops")
    return [
        (token_of("node", "node-a"), {}, sees_node("node-a")),
        (token_of("node", "node-b"), {}, sees_node("node-b")),
        (token_of("node", "node-c"), {}, sees_node("node-c")),
        (token_of("edge", "edge-a"), {}, sees_edge),
        (operator, {}, sees_all),
        (operator, {"node": "node-a"}, sees_node("node-a")),
        (operator, {"edge": "1"}, sees_edge),
        *((operator, place, sees_place(**place)) for place in places),
    ]


async def random_readers_and_a_writer(world: World, seed: int, *, commands: int) -> None:
    """Readers of every kind while somebody writes; at the end each has seen exactly what it may see."""
    assert world.session is not None
    who = some_readers()
    log_id = (await world.log.head()).log_id
    readers = [(Reader(world.url, token, log_id, query=query), tells) for token, query, tells in who]
    writing = asyncio.create_task(write(world.log, random.Random(seed), commands))

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
    for reader, tells in readers:
        reader.check(everything, tells)
    assert sum(len(reader.removals) for reader, _ in readers) > 5
    assert sum(len(reader.seen) for reader, _ in readers) > 300
    assert len(everything) == writing.result()
    await until(lambda: world.streams.open_count == 0)
