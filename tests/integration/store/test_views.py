"""The stored views: rebuild equals incremental (P1), checkpoint with change (P2), bounded waits (P3), reads during a
rebuild (P6), one poisoned row (R8).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import pytest

from kit.errors import Bug, Transient
from reconciler.core.events import Event
from reconciler.core.past import Past
from reconciler.core.projection import Doc, Projection
from reconciler.core.views import PROJECTIONS
from reconciler.store import rebuild, view_writer, views
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.integration.store.building import command, node_event
from tests.unit.projections.samples import APP, PAYLOADS, new_event


async def rows_as_text(url: str, view: str) -> list[tuple[str, str, int]]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "trueup"})
    try:
        found = await connection.fetch(f"SELECT key, doc::text, last_event_id FROM view_{view} ORDER BY key")
        return [tuple(row) for row in found]
    finally:
        await connection.close()


async def all_as_text(url: str) -> dict[str, list[tuple[str, str, int]]]:
    return {name: await rows_as_text(url, name) for name in PROJECTIONS}


def folded(events: Sequence[Event]) -> dict[str, dict[str, Doc]]:
    """What the pure folds make of a log in which some rows go into quarantine."""
    past = Past()
    past.fold(events)
    return past.rows


async def append_all_kinds(store: Store, rounds: int = 1) -> None:
    rng = random.Random(rounds)
    kinds = sorted(PAYLOADS)
    for _ in range(rounds):
        rng.shuffle(kinds)
        kinds.sort(key=lambda kind: not kind.endswith((".created", ".enrolled", ".allocated", ".registered")))
        await store.log.append([command(*(new_event(kind) for kind in kinds))])


async def test_what_is_stored_is_what_the_pure_fold_gives(store: Store) -> None:
    await append_all_kinds(store, 5)
    await store.writer.catch_up()
    expected = folded(await store.log.read(0, limit=10_000))
    snapshot = await store.views.snapshot(PROJECTIONS)
    assert snapshot.rows == expected
    assert snapshot.event_id == (await store.log.head()).last_event_id
    assert snapshot.log_id == (await store.log.head()).log_id
    assert any(snapshot.rows.values())


async def test_P1_a_rebuild_equals_the_incremental_result_byte_for_byte(store: Store) -> None:
    for _ in range(3):
        await append_all_kinds(store, 2)
        await store.writer.catch_up()
    before = await all_as_text(store.access.app_url)
    for name in PROJECTIONS:
        assert await store.rebuild(name) == 0, name
    assert await all_as_text(store.access.app_url) == before


async def test_P1_a_rebuild_mends_what_is_wrong(store: Store, superuser_url: str) -> None:
    await append_all_kinds(store, 2)
    await store.log.append([command(*_nodes("n0", "n1"), node_event("n1"))])
    await store.writer.catch_up()
    before = await rows_as_text(superuser_url, "nodes")
    admin = await asyncpg.connect(superuser_url, server_settings={"search_path": "trueup"})
    await admin.execute("UPDATE view_nodes SET doc = doc || '{\"cpu\": 99}' WHERE key = 'n1'")
    await admin.execute("DELETE FROM view_nodes WHERE key = 'n0'; INSERT INTO view_nodes VALUES ('ghost', '{}', 1)")
    await admin.close()
    assert await store.rebuild("nodes") == 3
    assert await rows_as_text(superuser_url, "nodes") == before


async def test_P6_a_rebuild_does_not_stop_reads_or_show_half_a_view(store: Store) -> None:
    await store.log.append([command(*(new_event("node.enrolled", node_id=f"n{n}") for n in range(300)))])
    await store.writer.catch_up()
    done = asyncio.Event()
    sizes: set[int] = set()

    async def read() -> None:
        while not done.is_set():
            sizes.add(len((await store.views.snapshot(["nodes"])).rows["nodes"]))

    reader = asyncio.ensure_future(read())
    for _ in range(3):
        await store.rebuild("nodes")
    done.set()
    await reader
    assert sizes == {300}


async def test_a_rebuild_while_events_arrive_loses_none(store: Store) -> None:
    async def write() -> None:
        for number in range(40):
            await store.log.append([command(new_event("node.enrolled", node_id=f"n{number}"))])
            await store.writer.catch_up(["nodes"])

    await asyncio.gather(write(), store.rebuild("nodes"))
    await store.rebuild("nodes")
    await store.writer.catch_up()
    assert (await store.views.snapshot(["nodes"])).rows["nodes"] == folded(await store.log.read(0, limit=99))["nodes"]


async def test_projecting_twice_equals_once(store: Store, superuser_url: str) -> None:
    """A page that is tried again after it was written has no effect: the checkpoint guards it."""
    await append_all_kinds(store)
    events = await store.log.read(0, limit=1000)
    checkpoint = view_writer.Checkpoint(0, 0)
    await store.writer.catch_up()
    before = await all_as_text(superuser_url)
    for projection in PROJECTIONS.values():
        assert not await store.writer._write_page(projection, checkpoint, events)
    await store.writer.catch_up()
    assert await all_as_text(superuser_url) == before


async def test_two_projectors_at_once_give_the_result_of_one(store_settings: StoreSettings) -> None:
    async with opened_store(store_settings) as one, opened_store(store_settings) as two:
        for _ in range(5):
            await append_all_kinds(one, 2)
            await asyncio.gather(one.writer.catch_up(), two.writer.catch_up())
        assert (await one.views.snapshot(PROJECTIONS)).rows == folded(await one.log.read(0, limit=5000))


async def test_a_page_folded_before_a_rebuild_is_not_written_after_it(store: Store) -> None:
    """Even if the rebuild ended at the very event where the page began."""
    await store.log.append([command(new_event("node.enrolled"))])
    await store.writer.catch_up()
    await store.rebuild("nodes")
    await store.log.append([command(new_event("node.state_changed"))])
    events = await store.log.read(1, limit=10)
    assert not await store.writer._write_page(PROJECTIONS["nodes"], view_writer.Checkpoint(1, 0), events)
    assert await store.writer._write_page(PROJECTIONS["nodes"], view_writer.Checkpoint(1, 1), events)


async def test_P2_a_crash_between_rows_and_checkpoint_leaves_neither(
    store: Store, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_all_kinds(store)
    written = view_writer.write_rows

    async def crash(*arguments: Any) -> None:
        await written(*arguments)
        raise asyncpg.ConnectionDoesNotExistError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(view_writer, "write_rows", crash)
        with pytest.raises(Transient):
            await store.writer.apply_page("nodes")
    assert await rows_as_text(superuser_url, "nodes") == []
    assert (await store.views.checkpoints())["nodes"] == 0
    await store.writer.catch_up()
    assert (await store.views.snapshot(["nodes"])).rows["nodes"] == folded(await store.log.read(0, limit=99))["nodes"]


async def test_P3_wait_for_returns_when_the_views_have_come_so_far(store: Store) -> None:
    await store.log.append([command(node_event())])
    waiting = asyncio.ensure_future(store.views.wait_for(1, ["nodes", "sources"], 20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await store.writer.catch_up(["nodes"])
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await store.writer.catch_up(["sources"])
    await waiting


async def test_P3_wait_for_sees_a_projector_in_another_process(store_settings: StoreSettings) -> None:
    async with opened_store(store_settings) as one, opened_store(store_settings) as two:
        await one.log.append([command(node_event())])
        waiting = asyncio.ensure_future(one.views.wait_for(1, ["nodes"], 20))
        await two.writer.catch_up()
        await waiting


async def test_P3_a_wait_that_is_in_vain_names_the_view_and_both_places(store: Store) -> None:
    await store.log.append([command(node_event(), node_event())])
    await store.writer.catch_up(["sources"])
    with pytest.raises(Transient) as caught:
        await store.views.wait_for(2, ["sources", "nodes"], 0.1)
    assert caught.value.code == "projection_timeout"
    for word in ("nodes", "event 2", "at event 0"):
        assert word in str(caught.value)


class Poisoned:
    """The view of the nodes, except that the node "bad" cannot be folded from a certain state on."""

    name = "nodes"

    def keys(self, event: Event) -> frozenset[str]:
        return PROJECTIONS["nodes"].keys(event)

    def fold(self, key: str, row: Doc | None, event: Event) -> Doc | None:
        if key == "bad" and event.event_type == "node.state_changed":
            raise KeyError("poison")
        return PROJECTIONS["nodes"].fold(key, row, event)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Every module of the store sees the poisoned projection."""
    changed: dict[str, Projection] = {**PROJECTIONS, "nodes": Poisoned()}
    with monkeypatch.context() as patch:
        for module in (view_writer, rebuild, views):
            patch.setattr(module, "PROJECTIONS", changed)
        yield patch


def _nodes(*names: str) -> Sequence[Any]:
    return [new_event("node.enrolled", node_id=name) for name in names]


async def test_R8_an_event_that_cannot_be_folded_stops_only_its_own_row(
    store: Store, poisoned: pytest.MonkeyPatch
) -> None:
    later = new_event("node.state_changed", node_id="good", state="active", reason="later")
    await store.log.append([command(*_nodes("bad", "good"), node_event("bad"), node_event("good"))])
    await store.writer.catch_up()
    await store.log.append([command(*_nodes("bad"), later, new_event("app.created"))])
    await store.writer.catch_up()
    rows = (await store.views.snapshot(["nodes"])).rows["nodes"]
    assert rows["good"]["reason"] == "later"
    assert (rows["bad"]["state"], rows["bad"]["updated_event_id"]) == ("active", 1), "it stays as it was"
    assert await store.views.get("resources", APP) is not None
    (found,) = await store.views.quarantined()
    assert (found.projection, found.key, found.event_id, found.event_type) == ("nodes", "bad", 3, "node.state_changed")
    assert "poison" in found.error


async def test_R8_a_rebuild_with_mended_code_ends_the_quarantine(store: Store, poisoned: pytest.MonkeyPatch) -> None:
    await store.log.append([command(*_nodes("bad"), node_event("bad", "over"))])
    await store.writer.catch_up()
    before = await store.views.quarantined()
    await store.rebuild("nodes")
    assert await store.views.quarantined() == before, "the same code fails at the same place"
    poisoned.undo()
    assert await store.rebuild("nodes") == 1
    assert await store.views.quarantined() == []
    assert (await store.views.get("nodes", "bad") or {})["reason"] == "over"


async def test_rows_are_found_by_their_indexed_fields(store: Store) -> None:
    await store.log.append(
        [command(*(new_event("instance.allocated", instance_id=f"i{n}", node_id=f"node-{n % 2}") for n in range(5)))]
    )
    await store.writer.catch_up()
    assert list(await store.views.find("instances", "node_id", "node-1")) == ["i1", "i3"]
    assert len(await store.views.find("instances", "app", APP)) == 5
    assert await store.views.get("instances", "i9") is None
    with pytest.raises(Bug, match="no index"):
        await store.views.find("instances", "status", "ready")
    with pytest.raises(Bug, match="there are only"):
        await store.views.get("nodes; DROP TABLE events", "x")


async def test_a_field_that_is_called_indexed_has_its_index(store: Store) -> None:
    connection = await asyncpg.connect(store.access.app_url)
    try:
        for view, fields in views.INDEXED.items():
            found = await connection.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = $1", f"view_{view}")
            for field in fields:
                assert any(f"'{field}'" in definition for (definition,) in found), (view, field)
    finally:
        await connection.close()
