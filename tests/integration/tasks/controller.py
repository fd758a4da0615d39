"""The control plane without Git and HTTP, on real Postgres: store, projector, handlers, scheduler. For tests.

The projector runs as a task; nothing else does unless a test starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kit.clock import SystemClock
from kit.wire import Endpoint, Enrolment, InstanceReport, NodeReport
from reconciler.core.commands import DeclareResource, GitCommand, RemoveResource
from reconciler.core.events import Cause, Event
from reconciler.core.model import Resource, ResourceId
from reconciler.core.revisions import Refused, RevisionApplied, Source, Submitted
from reconciler.core.views import PROJECTIONS
from reconciler.handlers import Handlers
from reconciler.ids import UlidIds
from reconciler.store.store import Store
from reconciler.tasks.projector import Projector
from reconciler.tasks.scheduler import Scheduler
from tests.unit.scheduler.world import ORG, PROJECT

DEADLINE_S = 20.0


@dataclass
class Controller:
    store: Store
    handlers: Handlers
    scheduler: Scheduler
    counters: Any = field(default_factory=lambda: itertools.count(1))
    commits: Any = field(default_factory=lambda: itertools.count(1))

    def another(self) -> Controller:
        """A second controller process on the same database."""
        return make(self.store)

    async def register(self, source_id: str) -> None:
        await self.handlers.register_source(Source(source_id, ORG, PROJECT, "file:///repo"))

    async def enrol(self, node_id: str, memory_mib: int = 4096) -> None:
        number = int.from_bytes(node_id.encode()[-2:], "big")
        enrolment = Enrolment(node_id, f"fd00:{number:x}::/64", memory_mib << 20, 4.0, 1 << 40, "age1x", "tcg", "1")
        await self.handlers.enrol_node(enrolment)

    async def commit(self, *resources: Resource, source: str = "main", remove: tuple[ResourceId, ...] = ()) -> str:
        revision, commands = await self.revision(*resources, source=source, remove=remove)
        result = await self.handlers.submit_revision(revision, commands)
        assert isinstance(result, Submitted), result
        return revision.commit

    async def try_commit(self, *resources: Resource, source: str) -> Submitted | Refused:
        return await self.handlers.submit_revision(*await self.revision(*resources, source=source))

    async def revision(
        self, *resources: Resource, source: str = "main", remove: tuple[ResourceId, ...] = ()
    ) -> tuple[RevisionApplied, list[GitCommand]]:
        await self.caught_up()
        row = await self.store.views.get("sources", source)
        base = row["applied_commit"] if row else ""
        commit = f"{next(self.commits):040x}"
        cause = Cause("user", "ann", ORG, source, commit, correlation_id=f"{source}@{commit}")
        commands: list[GitCommand] = [
            DeclareResource(
                f"{source}-{commit}-{each.id}", replace(cause, path=each.origin.path, line=each.origin.line), each
            )
            for each in resources
        ]
        commands += [RemoveResource(f"{source}-{commit}-remove-{each}", cause, each) for each in remove]
        return RevisionApplied(f"apply-{source}-{commit}", cause, source, commit, base, "ann", "a change"), commands

    async def caught_up(self) -> None:
        head = await self.store.log.head()
        await self.store.views.wait_for(head.last_event_id, PROJECTIONS, DEADLINE_S)

    async def rows(self, view: str) -> dict[str, Any]:
        await self.caught_up()
        return dict((await self.store.views.snapshot([view])).rows[view])

    async def events(self, event_type: str = "") -> list[Event]:
        found = await self.store.log.read(0, limit=5000)
        return [event for event in found if not event_type or event.event_type == event_type]

    async def report(self, instance_id: str, status: str, **more: Any) -> None:
        row = await self.store.views.get("instances", instance_id)
        assert row is not None
        await self.handlers.record_node_report(NodeReport(row["node_id"], (self.told(row, status, **more),)))

    def told(self, row: Any, status: Any, **more: Any) -> InstanceReport:
        endpoint = Endpoint(8080, row["workload"]["address"], 8080)
        at = "2026-01-01T00:00:00Z"
        return InstanceReport(
            row["instance_id"], row["epoch"], next(self.counters), status, at, endpoints=(endpoint,), **more
        )

    async def agents_act(self) -> None:
        """Each instance becomes what it is told to be."""
        for row in (await self.rows("instances")).values():
            if row["desired"] != "running":
                await self.report(row["instance_id"], "stopped")
            elif row["status"] != "ready":
                await self.report(row["instance_id"], "ready")

    async def settle(self) -> None:
        for _ in range(60):
            before = (await self.store.log.head()).last_event_id
            for _ in range(2):  # the first only learns of an act that got in between
                await self.scheduler.one_pass()
            await self.agents_act()
            if (await self.store.log.head()).last_event_id == before:
                return
        raise AssertionError("it does not settle")


def make(store: Store) -> Controller:
    clock, ids = SystemClock(), UlidIds()
    handlers = Handlers(store.log, store.views, ids, clock)
    return Controller(store, handlers, Scheduler(store.log, store.views, handlers, ids, clock, random.Random(1)))


@contextlib.asynccontextmanager
async def running(store: Store) -> AsyncIterator[Controller]:
    stop = asyncio.Event()
    projector = Projector(store.log, store.writer, sorted(PROJECTIONS), SystemClock(), random.Random(1))
    task = asyncio.create_task(projector.run(stop))
    try:
        controller = make(store)
        await controller.register("main")
        yield controller
    finally:
        stop.set()
        await task


async def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Waits for a truthy answer, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await condition()
            if found:
                return found
            await asyncio.sleep(0.02)
    raise AssertionError(what)
