"""L3 when the connection is cut around COMMIT: nobody is told a guess, and nothing happens twice."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from reconciler.core.commands import Appended, Claim, Conflict
from reconciler.store.pool import connect
from reconciler.store.roles import APP_ROLE
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.integration.store.building import command, node_event
from tests.integration.store.proxy import Cut, Proxy, proxied
from tests.postgres import Cluster


@pytest_asyncio.fixture
async def cut_store(
    cluster: Cluster, database: str, store_settings: StoreSettings
) -> AsyncIterator[tuple[Store, Proxy]]:
    """A store whose application connections go through the proxy."""
    folder = Path(tempfile.mkdtemp(prefix="trueup-proxy-"))
    try:
        async with proxied(cluster.server.data, folder) as proxy:
            url = f"postgresql://{APP_ROLE}@/{database}?host={folder}"
            async with opened_store(replace(store_settings, app_url=url)) as store:
                yield store, proxy
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("cut", ["before_commit", "after_commit", "while_committing"])
async def test_L3_a_command_whose_commit_was_cut_is_appended_once(
    cut_store: tuple[Store, Proxy], superuser_url: str, cut: Cut
) -> None:
    """What the database holds at the moment of the cut shows that it was the cut that is meant."""

    async def count() -> int:
        connection = await connect(superuser_url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM events"))
        finally:
            await connection.close()

    store, proxy = cut_store
    proxy.observe = count
    proxy.plan.append(cut)
    (result,) = await store.log.append([command(node_event(), node_event(), command_id="cut")])
    assert result == Appended("cut", 1, 2), "it is this call's own effect, not a duplicate"
    assert proxy.cuts == 1
    assert proxy.observed in {"before_commit": ([0],), "after_commit": ([2],), "while_committing": ([0], [2])}[cut]
    assert [event.command_id for event in await store.log.read(0, limit=9)] == ["cut", "cut"]
    (again,) = await store.log.append([command(node_event(), node_event(), command_id="cut")])
    assert again == Appended("cut", 1, 2, duplicate=True)


async def test_L3_a_claim_whose_commit_was_cut_still_has_one_winner(cut_store: tuple[Store, Proxy]) -> None:
    store, proxy = cut_store
    proxy.plan.append("after_commit")
    asked = [command(node_event(), take=[Claim("hostname", "a:443", f"route-{n}")]) for n in range(4)]
    results = [result for (result,) in await asyncio.gather(*(store.log.append([each]) for each in asked))]
    assert sum(isinstance(result, Appended) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 3


async def test_L3_many_writers_under_random_cuts(cut_store: tuple[Store, Proxy]) -> None:
    store, proxy = cut_store
    rng = random.Random(7)
    kinds: list[Cut] = ["before_commit", "after_commit", "while_committing"]
    proxy.plan.extend(rng.choice(kinds) for _ in range(12))
    asked = [command(*[node_event(str(n))] * (1 + n % 3), command_id=f"many-{n}") for n in range(24)]
    results = [result for (result,) in await asyncio.gather(*(store.log.append([each]) for each in asked))]
    events = await store.log.read(0, limit=1000)
    assert [event.event_id for event in events] == list(range(1, sum(len(each.events) for each in asked) + 1))
    for each, result in zip(asked, results, strict=True):
        assert isinstance(result, Appended)
        assert not result.duplicate
        found = [event.event_id for event in events if event.command_id == each.command_id]
        assert found == list(range(result.first_event_id, result.last_event_id + 1))
    assert proxy.cuts == 12
