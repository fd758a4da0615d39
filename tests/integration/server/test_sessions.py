"""P3 and P4 through HTTP: who passes on the event_id that an answer showed never goes back, whichever controller is
asked; and who asks for what does not come is told so in time.
"""

from __future__ import annotations

import asyncio
from typing import Any

from reconciler.server.limits import Limits
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.integration.store.building import command
from tests.unit.projections.samples import new_event
from tests.unit.server.world import World, serving, token_of

WAIT_S = 0.3


async def test_P4_a_session_over_two_controllers_never_goes_back(store_settings: StoreSettings) -> None:
    """While both project, and one rebuilds."""
    async with (
        opened_store(store_settings) as one,
        opened_store(store_settings) as two,
        serving(log=one.log, views=one.views) as first,
        serving(log=two.log, views=two.views) as second,
    ):
        await write(one)
        await asyncio.gather(one.writer.catch_up(), two.writer.catch_up())
        done, seen = asyncio.Event(), 0

        async def work() -> None:
            for number in range(12):
                await write(one if number % 2 else two)
                await asyncio.gather(one.writer.catch_up(), two.writer.catch_up())
                if number % 5 == 0:
                    await two.rebuild("nodes")
            done.set()

        async def read() -> None:
            nonlocal seen
            asked = 0
            while not done.is_set():
                world = (first, second)[asked % 2]
                shown, row = await READS[asked % len(READS)](world, seen)
                assert shown >= seen, "not older than what this session has seen"
                assert row >= seen, "and neither is the row"
                seen, asked = max(shown, row), asked + 1
            assert asked > 10

        await asyncio.gather(work(), read())
        assert seen > 5


async def write(store: Store) -> None:
    await store.log.append([command(new_event("node.enrolled"))])


async def rows(world: World, seen: int) -> tuple[int, int]:
    document = await world.get(f"/v1/views/nodes?min_event_id={seen}")
    return document["event_id"], document["rows"][0]["doc"]["updated_event_id"]


async def one_row(world: World, seen: int) -> tuple[int, int]:
    document = await world.get(f"/v1/views/nodes/node-a?min_event_id={seen}")
    return document["event_id"], document["doc"]["updated_event_id"]


async def status(world: World, seen: int) -> tuple[int, int]:
    document = await world.get(f"/v1/status?min_event_id={seen}")
    return document["event_id"], document["event_id"]


READS = (rows, one_row, status)


async def test_P3_a_read_that_is_in_vain_ends_in_time_and_says_how_far_the_view_is(store: Store) -> None:
    await write(store)
    await store.writer.catch_up()
    await write(store)
    async with serving(Limits(view_wait_s=WAIT_S), store.log, store.views) as world:
        for path in ("/v1/views/nodes", "/v1/views/nodes/node-a", "/v1/status", "/v1/why?resource=node-a"):
            begun_s = asyncio.get_running_loop().time()
            code, document = await ask(world, f"{path}{'&' if '?' in path else '?'}min_event_id=2")
            assert (code, document["code"]) == (504, "projection_timeout"), path
            assert "reach event 2" in document["detail"] and "at event 1" in document["detail"]
            assert asyncio.get_running_loop().time() - begun_s < WAIT_S + 3
        await store.writer.catch_up()
        assert (await ask(world, "/v1/views/nodes?min_event_id=2"))[0] == 200


async def ask(world: World, path: str) -> tuple[int, Any]:
    code, document, _ = await world.call("GET", path, token_of("operator", "ops"))
    return code, document
