"""The loop that keeps the views behind the log."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

from kit.clock import SystemClock
from kit.errors import Transient
from reconciler.core.views import PROJECTIONS
from reconciler.store.store import Store
from reconciler.tasks.projector import Pages, Projector
from tests.integration.store.building import command, node_event


@contextlib.asynccontextmanager
async def running(store: Store, pages: Pages | None = None) -> AsyncIterator[None]:
    stop = asyncio.Event()
    projector = Projector(store.log, pages or store.writer, tuple(PROJECTIONS), SystemClock(), random.Random(1))
    task = asyncio.create_task(projector.run(stop))
    yield
    stop.set()
    async with asyncio.timeout(5):
        await task


async def test_an_append_is_visible_soon_in_every_view(store: Store) -> None:
    loop = asyncio.get_running_loop()
    async with running(store):
        for _ in range(5):
            (result,) = await store.log.append([command(node_event())])
            began = loop.time()
            await store.views.wait_for(result.last_event_id, PROJECTIONS, 20)  # type: ignore[union-attr]  # no conflict
            assert loop.time() - began < 0.8, "woken by the tail, not by the idle time"


async def test_a_backlog_of_many_pages_is_worked_off(store: Store) -> None:
    await store.log.append([command(*[node_event()] * 2500)])
    async with running(store):
        await store.views.wait_for(2500, PROJECTIONS, 20)


@dataclass
class OneFails:
    """Fails on one view, `failures` times."""

    store: Store
    failures: int
    calls: list[str] = field(default_factory=list)

    async def apply_pages(self, names: Iterable[str]) -> Mapping[str, int | Exception]:
        wanted = list(names)
        if "sources" in wanted and self.failures > 0:
            self.failures -= 1
            self.calls.append("sources")
            others = await self.store.writer.apply_pages([name for name in wanted if name != "sources"])
            return {**others, "sources": Transient("write", "no")}
        return await self.store.writer.apply_pages(wanted)


async def test_a_view_that_fails_backs_off_and_the_others_go_on(store: Store) -> None:
    pages = OneFails(store, failures=3)
    others = [name for name in PROJECTIONS if name != "sources"]
    async with running(store, pages):
        await store.log.append([command(node_event())])
        await store.views.wait_for(1, others, 20)
        await store.views.wait_for(1, PROJECTIONS, 20)
    assert len(pages.calls) == 3


async def test_it_stops_at_once_when_told(store: Store) -> None:
    loop = asyncio.get_running_loop()
    async with running(store):
        await asyncio.sleep(0.05)
        began = loop.time()
    assert loop.time() - began < 0.5
