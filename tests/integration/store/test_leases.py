"""Leases on real Postgres: one holder at a time, each with a greater epoch, and none that outlives its term."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
import pytest_asyncio

from reconciler.core.commands import Appended, Conflict, Fence
from reconciler.store.leases import Leases
from reconciler.store.pool import connect
from reconciler.store.store import Store
from tests.integration.store.building import command, node_event
from tests.integration.store.test_heartbeats import HandClock

LONG_S = 60.0


@pytest_asyncio.fixture
async def pair(store: Store) -> AsyncIterator[tuple[Leases, Leases]]:
    made = tuple(
        Leases(lambda: connect(store.access.app_url, role=store.access.app_role), store._pool, name, HandClock())
        for name in ("a", "b")
    )
    yield (made[0], made[1])
    for each in made:
        await each.close()


async def expire(superuser_url: str) -> None:
    connection = await asyncpg.connect(superuser_url)
    try:
        await connection.execute("UPDATE trueup.leases SET expires_at = clock_timestamp() - interval '1 s'")
    finally:
        await connection.close()


async def test_of_many_contenders_one_gets_it(pair: tuple[Leases, Leases]) -> None:
    for _ in range(5):
        epochs = await asyncio.gather(*(each.acquire("scheduler", LONG_S) for each in pair))
        winner = next(number for number, epoch in enumerate(epochs) if epoch is not None)
        assert sum(epoch is not None for epoch in epochs) == 1
        await pair[winner].release("scheduler", epochs[winner] or 0)


async def test_a_new_holder_has_a_greater_epoch_and_the_old_one_cannot_renew(
    pair: tuple[Leases, Leases], superuser_url: str
) -> None:
    a, b = pair
    assert await a.acquire("scheduler", LONG_S) == 1
    assert await b.acquire("scheduler", LONG_S) is None
    await expire(superuser_url)
    assert await a.renew("scheduler", 1), "late, but nobody has taken it"
    assert await b.acquire("scheduler", LONG_S) is None
    await expire(superuser_url)
    assert await b.acquire("scheduler", LONG_S) == 2
    assert not await a.renew("scheduler", 1)
    await a.release("scheduler", 1)
    assert await b.renew("scheduler", 2), "a release that comes late takes nothing from the next holder"


async def test_a_released_lease_is_free_at_once_and_its_epoch_goes_on(pair: tuple[Leases, Leases]) -> None:
    a, b = pair
    assert await a.acquire("scheduler", LONG_S) == 1
    await a.release("scheduler", 1)
    assert not await a.renew("scheduler", 1)
    assert await b.acquire("scheduler", LONG_S) == 2
    (row,) = await b.rows()
    assert (row.lease, row.holder, row.epoch, row.held) == ("scheduler", "b", 2, True)


async def test_R7_a_database_clock_that_was_set_back_does_not_keep_a_dead_holder(
    pair: tuple[Leases, Leases], superuser_url: str
) -> None:
    a, b = pair
    await a.acquire("scheduler", 10.0)
    connection = await asyncpg.connect(superuser_url)
    await connection.execute("UPDATE trueup.leases SET expires_at = expires_at + interval '1 day'")
    await connection.close()
    assert await b.acquire("scheduler", 1.0) is None
    await b._clock.sleep(9)
    assert await b.acquire("scheduler", 1.0) is None, "the holder's time to live counts, not the contender's"
    await b._clock.sleep(1)
    assert await b.acquire("scheduler", 1.0) == 2


async def test_R7_a_holder_that_renews_is_never_taken_for_dead(pair: tuple[Leases, Leases]) -> None:
    a, b = pair
    await a.acquire("scheduler", 10.0)
    for _ in range(5):
        await b._clock.sleep(9)
        assert await b.acquire("scheduler", 10.0) is None
        assert await a.renew("scheduler", 1)


async def test_what_an_older_holder_appends_is_refused(
    store: Store, pair: tuple[Leases, Leases], superuser_url: str
) -> None:
    a, b = pair
    old = Fence("nodes", await a.acquire("nodes", LONG_S) or 0)
    (result,) = await store.log.append([replace(command(node_event()), fence=old)])
    assert isinstance(result, Appended)
    await expire(superuser_url)
    new = Fence("nodes", await b.acquire("nodes", LONG_S) or 0)
    for atomic in (True, False):
        (result,) = await store.log.append([replace(command(node_event()), fence=old)], atomic=atomic)
        assert isinstance(result, Conflict) and result.kind == "fence"
    (result,) = await store.log.append([replace(command(node_event()), fence=new)])
    assert isinstance(result, Appended) and result.last_event_id == 2


async def test_nothing_of_an_older_holder_comes_after_the_acquisition(store: Store, superuser_url: str) -> None:
    """An append that has passed the check of its fence and not yet committed holds the next holder up."""
    access = store.access
    leases = Leases(lambda: connect(access.app_url, role=access.app_role), store._pool, "b", HandClock())
    connection = await asyncpg.connect(superuser_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT 1 FROM trueup.log_head FOR UPDATE")  # what an append holds until its commit
    taking = asyncio.create_task(leases.acquire("nodes", LONG_S))
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(taking), 0.5)
        await transaction.rollback()
        assert await asyncio.wait_for(taking, 5) == 1
    finally:
        await connection.close()
        await leases.close()


async def test_a_broken_connection_costs_one_request(pair: tuple[Leases, Leases], superuser_url: str) -> None:
    a, _ = pair
    await a.acquire("nodes", LONG_S)
    assert a._connection is not None
    a._connection.terminate()
    assert await a.renew("nodes", 1)
