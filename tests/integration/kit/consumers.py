"""Who follows the change stream in tests, and what they hold against the log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kit.backoff import Backoff
from kit.control_plane import ControlPlane
from kit.cursors import CursorInMemory, CursorStore
from kit.follow_changes import follow_changes
from kit.stream_batches import Changes, Snapshot
from kit.stream_course import Pace
from tests.twin import append
from tests.unit.server.readers import some_event
from tests.unit.server.world import token_of, until

QUICK = Pace(
    hello_s=0.8, idle_s=1.2, long_poll_s=0.4, polling_s=0.6, reconnect_s=0.05, backoff=Backoff(0.01, 0.1, jitter=1.0)
)
OPS = token_of("operator", "ops")


@dataclass
class Consumer:
    """Keeps what came, as one list of events, and each call for itself."""

    calls: list[Changes] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    pause_s: float = 0.0

    @property
    def seen(self) -> list[int]:
        return [event["event_id"] for changes in self.calls for event in changes.events]

    async def on_snapshot(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    async def on_changes(self, changes: Changes) -> None:
        await asyncio.sleep(self.pause_s)
        self.calls.append(changes)

    def check(self, log: Any, after: int = 0) -> None:
        """Everything behind `after`, once, in order, and no command in two calls."""
        assert self.seen == [event.event_id for event in log.events if event.event_id > after]
        of_call = {event["command_id"]: number for number, changes in enumerate(self.calls) for event in changes.events}
        for number, changes in enumerate(self.calls):
            assert {of_call[event["command_id"]] for event in changes.events} == {number}


@asynccontextmanager
async def consuming(
    url: str,
    consumer: Consumer,
    *,
    token: str = OPS,
    query: Mapping[str, str] | None = None,
    store: CursorStore | None = None,
    snapshots: bool = False,
    pace: Pace = QUICK,
) -> AsyncIterator[asyncio.Task[None]]:
    """Stopped at the end, unless it has ended before."""
    stop = asyncio.Event()
    async with ControlPlane(url, token) as control_plane:
        task = asyncio.create_task(
            follow_changes(
                control_plane,
                query or {},
                consumer.on_snapshot if snapshots else None,
                consumer.on_changes,
                store or CursorInMemory("log-1.0"),
                stop,
                pace=pace,
                rng=random.Random(token),
            )
        )
        try:
            yield task
        finally:
            stop.set()
            await asyncio.wait_for(task, 10)


async def write(log: Any, rng: random.Random, commands: int) -> None:
    """Commands of many sizes, with pauses."""
    for _ in range(commands):
        number = len(log.events)
        size = rng.choice([1, 1, 2, 3, 20])
        await append(log, f"c-{number}", *(some_event(rng, number + index) for index in range(size)))
        if rng.random() < 0.3:
            await asyncio.sleep(rng.random() * 0.02)


async def until_seen(consumer: Consumer, log: Any) -> None:
    last = len(log.events)
    await until(lambda: last in consumer.seen[-1:])
