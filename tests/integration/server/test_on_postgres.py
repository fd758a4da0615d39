"""The server on the real log and the real views: the same oracle as with the twins, and what only Postgres can do."""

from __future__ import annotations

import asyncio
import json

import pytest

from reconciler.store.store import Store
from tests.twin import append
from tests.unit.server.readers import Reader, random_readers_and_a_writer
from tests.unit.server.test_streams import SMALL
from tests.unit.server.world import DEADLINE_S, enrol_node, heard, serving, token_of, until


@pytest.mark.parametrize("seed", range(3))
async def test_random_readers_see_exactly_the_filtered_log(store: Store, seed: int) -> None:
    async with serving(SMALL, store.log, store.views) as world:
        await random_readers_and_a_writer(world, seed, commands=20)


async def test_an_append_is_heard_at_once(store: Store) -> None:
    """Woken by the database, not by a timer."""
    async with serving(log=store.log, views=store.views) as world:
        assert world.session is not None
        log_id = (await store.log.head()).log_id
        headers = {"Authorization": f"Bearer {token_of('node', 'node-a')}"}
        query = {"cursor": f"{log_id}.0"}
        async with world.session.get(f"{world.url}/v1/stream", params=query, headers=headers) as answer:
            assert json.loads(await answer.content.readline())["type"] == "hello"
            for number in range(20):
                event_id = await append(store.log, f"c{number}", heard("node-a", number))
                async with asyncio.timeout(2):
                    line = json.loads(await answer.content.readline())
                    assert (line["type"], line["event"]["event_id"]) == ("change", event_id)
                    assert json.loads(await answer.content.readline())["type"] == "bookmark"


async def test_reads_wait_for_the_projector(store: Store) -> None:
    async with serving(log=store.log, views=store.views) as world:
        event_id = await enrol_node(store.log, "node-a")
        reading = asyncio.create_task(world.get(f"/v1/views/nodes?min_event_id={event_id}"))
        await asyncio.sleep(0.05)
        assert not reading.done()
        await store.writer.catch_up()
        document = await asyncio.wait_for(reading, DEADLINE_S)
        assert [row["key"] for row in document["rows"]] == ["node-a"]
        assert document["event_id"] == event_id


async def test_two_writers_and_a_reader_that_never_leaves(store: Store) -> None:
    async with serving(log=store.log, views=store.views) as world:
        assert world.session is not None
        reader = Reader(world.url, token_of("operator", "ops"), (await store.log.head()).log_id)
        reading = asyncio.create_task(
            reader.connect(world.session, lines_max=1 << 30, finished=lambda: reader.position >= 100)
        )

        async def write(name: str) -> None:
            for number in range(50):
                await append(store.log, f"{name}-{number}", heard("node-a", number))

        await asyncio.gather(write("one"), write("two"))
        await asyncio.wait_for(reading, DEADLINE_S)
        assert reader.seen == list(range(1, 101))
        await until(lambda: world.streams.open_count == 0)
