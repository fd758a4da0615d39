"""A loop runs while its lease is held, and not a moment longer. Real leases; the network between is cut by hand."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from kit.clock import SystemClock
from kit.errors import Bug, Transient
from reconciler.core.commands import Fence
from reconciler.leadership import MARGIN_SHARE, Leadership
from reconciler.store.leases import Leases
from reconciler.store.pool import connect
from reconciler.store.store import Store
from tests.integration.tasks.controller import eventually

TTL_S = 0.8


@dataclass
class Contender:
    """A leadership, what its loop did, and a wire that can be cut."""

    leases: Leases
    ttl_s: float = TTL_S
    running: Fence | None = None
    terms: list[int] = field(default_factory=list)
    ended_s: float = 0.0
    standing_by: bool = False
    cut: bool = False
    deaf_to_stop: bool = False
    clock: SystemClock = field(default_factory=SystemClock)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def acquire(self, lease: str, ttl_s: float) -> int | None:
        self._check()
        return await self.leases.acquire(lease, ttl_s)

    async def renew(self, lease: str, epoch: int, trouble: str = "") -> bool:
        self._check()
        return await self.leases.renew(lease, epoch, trouble)

    async def release(self, lease: str, epoch: int) -> None:
        self._check()
        await self.leases.release(lease, epoch)

    def _check(self) -> None:
        if self.cut:
            raise Transient("ask the database", "the wire is cut")

    async def lead(self, stop: asyncio.Event, fence: Fence) -> None:
        self.running = fence
        self.terms.append(fence.epoch)
        try:
            await stop.wait()
            if self.deaf_to_stop:
                with contextlib.suppress(asyncio.CancelledError):  # and to the first cancellation, too
                    await asyncio.sleep(60)
                await asyncio.sleep(60)
        finally:
            self.running, self.ended_s = None, self.clock.now_s()

    async def wait(self, stop: asyncio.Event) -> None:
        self.standing_by = True
        try:
            await stop.wait()
        finally:
            self.standing_by = False

    def start(self) -> None:
        leadership = Leadership(
            "scheduler", self, self.lead, self.clock, random.Random(1), self.ttl_s, drain_s=0.3, standby=self.wait
        )
        self.task = asyncio.create_task(leadership.run(self.stop))

    async def end(self) -> None:
        self.stop.set()
        if self.task is not None:
            await asyncio.wait_for(self.task, 5)

    async def leads(self) -> bool:
        return self.running is not None


@pytest_asyncio.fixture
async def pair(store: Store) -> AsyncIterator[tuple[Contender, Contender]]:
    access = store.access
    made = [
        Contender(
            Leases(lambda: connect(access.app_url, role=access.app_role), store._pool, name, SystemClock()),
        )
        for name in ("a", "b")
    ]
    yield made[0], made[1]
    for each in made:
        if each.task is not None:
            each.stop.set()
            each.task.cancel()
            await asyncio.gather(each.task, return_exceptions=True)
        await each.leases.close()


async def test_one_leads_the_other_stands_by_and_takes_over_after_a_clean_stop(
    pair: tuple[Contender, Contender],
) -> None:
    a, b = pair
    a.ttl_s = b.ttl_s = 30.0
    a.start()
    await eventually(a.leads, "a leads")
    b.start()
    await asyncio.sleep(0.3)
    assert (a.standing_by, b.standing_by, b.running) == (False, True, None)
    await a.end()
    stopped_s = b.clock.now_s()
    await eventually(b.leads, "b leads")
    assert b.clock.now_s() - stopped_s < 3, "it did not wait for the time to live"
    assert (a.terms, b.terms, b.standing_by) == ([1], [2], False)


async def test_a_holder_that_is_cut_off_stops_before_the_next_one_begins(pair: tuple[Contender, Contender]) -> None:
    a, b = pair
    a.start()
    await eventually(a.leads, "a leads")
    b.start()
    a.cut = True
    await eventually(b.leads, "b leads")
    assert a.running is None
    assert a.ended_s < b.clock.now_s()
    a.cut = False
    await asyncio.sleep(TTL_S)
    assert (a.terms, b.terms) == ([1], [2]), "who comes back does not take it away"
    assert a.standing_by


async def test_a_holder_that_renews_keeps_its_term(pair: tuple[Contender, Contender]) -> None:
    a, b = pair
    a.start()
    await eventually(a.leads, "a leads")
    b.start()
    await asyncio.sleep(2.5 * TTL_S)
    assert (a.terms, b.terms) == ([1], [])


async def test_a_short_cut_costs_nothing(pair: tuple[Contender, Contender]) -> None:
    a, _ = pair
    a.start()
    await eventually(a.leads, "a leads")
    a.cut = True
    await asyncio.sleep(TTL_S * (1 / 3 + 0.1))
    a.cut = False
    await asyncio.sleep(TTL_S)
    assert a.terms == [1]


async def test_a_renewal_that_hangs_does_not_keep_the_loop_going(pair: tuple[Contender, Contender]) -> None:
    a, _ = pair

    async def hangs(lease: str, epoch: int, trouble: str = "") -> bool:
        await asyncio.sleep(60)
        return True

    begun_s = a.clock.now_s()
    a.renew = hangs  # type: ignore[method-assign]  # the answer never comes
    a.start()
    await eventually(a.leads, "a leads")

    async def ended() -> bool:
        return a.ended_s > 0

    await eventually(ended, "the loop is stopped")
    assert a.ended_s - begun_s < TTL_S, "with a margin"
    assert MARGIN_SHARE > 0.1


async def test_a_loop_that_does_not_end_is_cut_off_and_the_lease_released(pair: tuple[Contender, Contender]) -> None:
    a, b = pair
    a.ttl_s, a.deaf_to_stop = 30.0, True
    a.start()
    await eventually(a.leads, "a leads")
    await a.end()
    assert a.running is None
    b.start()
    await eventually(b.leads, "b leads")


async def test_a_loop_that_ends_by_itself_ends_the_program_and_frees_the_lease(
    pair: tuple[Contender, Contender],
) -> None:
    a, b = pair
    a.ttl_s = 30.0

    async def breaks(stop: asyncio.Event, fence: Fence) -> None:
        raise ValueError("no")

    a.lead = breaks  # type: ignore[method-assign]  # a loop with a bug
    a.start()
    assert a.task is not None
    with pytest.raises(Bug, match="the loop scheduler"):
        await asyncio.wait_for(a.task, 5)
    b.start()
    await eventually(b.leads, "b leads")
    with contextlib.suppress(Bug):
        await b.end()
