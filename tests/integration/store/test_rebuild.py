"""Rebuild and verification of views and claims: one pass for all, bounded memory, nothing disturbed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest

from kit.errors import Refusal, Transient
from reconciler.core.commands import Claim
from reconciler.core.views import PROJECTIONS
from reconciler.store import archive, log_pages, rebuild, shadow, view_mirror
from reconciler.store.limits import LOG_PAGE_BYTES_MAX
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from reconciler.store.stored_event import StoredEvent
from reconciler.store.view_writer import lock_name
from tests.integration.store.building import command
from tests.integration.store.test_views import all_as_text, append_all_kinds
from tests.integration.tasks.controller import running
from tests.unit.decide.test_git import route
from tests.unit.projections.samples import APP, ROUTE, VOLUME, new_event
from tests.unit.scheduler.world import app, process, volume, web_port


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"search_path": "trueup"})
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_one_pass_reads_each_event_once_for_all_views(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await append_all_kinds(store, 4)
    await store.writer.catch_up()
    before, made = await all_as_text(store.access.app_url), []
    original = log_pages.event_of_row

    def counted(row: asyncpg.Record) -> StoredEvent:
        made.append(row["event_id"])
        return original(row)

    monkeypatch.setattr(log_pages, "event_of_row", counted)
    results = await store.rebuild_views(PROJECTIONS)
    assert made == list(range(1, (await store.log.head()).last_event_id + 1))
    assert [each.view for each in results] == sorted(PROJECTIONS)
    assert {each.differing for each in results} == {0}
    assert await all_as_text(store.access.app_url) == before


@pytest.mark.parametrize("rows_max", [0, 2, 20, 100_000])
async def test_an_empty_view_is_filled_whatever_fits_into_memory(
    store: Store, superuser_url: str, monkeypatch: pytest.MonkeyPatch, rows_max: int
) -> None:
    monkeypatch.setattr(rebuild, "REBUILD_ROWS_MAX", rows_max)
    monkeypatch.setattr(rebuild, "REBUILD_SLICE_EVENTS", 3)
    monkeypatch.setattr(log_pages, "LOG_PAGE_EVENTS_MAX", 7)
    await append_all_kinds(store, 3)
    await store.log.append([command(*(new_event("node.enrolled", node_id=f"n{n}") for n in range(50)))])
    await store.writer.catch_up()
    before = await all_as_text(superuser_url)
    for name in PROJECTIONS:
        await execute(superuser_url, f"TRUNCATE view_{name}")
    await store.rebuild_views()
    assert await all_as_text(superuser_url) == before


async def test_verify_names_what_differs_and_changes_nothing(store: Store, superuser_url: str) -> None:
    await store.log.append([command(*(new_event("node.enrolled", node_id=f"n{n}") for n in range(4)))])
    await store.writer.catch_up()
    await execute(superuser_url, "UPDATE view_nodes SET doc = doc || '{\"cpu\": 9}' WHERE key = 'n1'")
    await execute(superuser_url, "DELETE FROM view_nodes WHERE key = 'n2'")
    await execute(superuser_url, "INSERT INTO view_nodes VALUES ('ghost', '{}', 1)")
    before, generation = await all_as_text(superuser_url), "SELECT sum(generation) FROM checkpoints"
    (result,) = await store.rebuild_views(["nodes"], verify=True)
    assert result.keys == (("ghost", "extra"), ("n1", "wrong"), ("n2", "missing"))
    assert await all_as_text(superuser_url) == before
    connection = await asyncpg.connect(superuser_url, server_settings={"search_path": "trueup"})
    assert await connection.fetchval(generation) == 0
    await connection.close()


async def test_a_float_that_became_a_whole_number_is_a_difference(store: Store, superuser_url: str) -> None:
    await store.log.append([command(new_event("node.enrolled", node_id="n1", cpu=4.0))])
    await store.writer.catch_up()
    await execute(superuser_url, "UPDATE view_nodes SET doc = doc || '{\"cpu\": 4}'")
    (result,) = await store.rebuild_views(["nodes"], verify=True)
    assert result.keys == (("n1", "wrong"),)


async def test_verify_of_a_view_that_is_behind_is_no_difference(store: Store) -> None:
    await append_all_kinds(store)
    await store.writer.catch_up(["nodes"])
    await append_all_kinds(store)
    assert [each.differing for each in await store.rebuild_views(PROJECTIONS, verify=True)] == [0] * len(PROJECTIONS)


async def test_P6_a_snapshot_from_before_a_rebuild_still_sees_its_rows(store: Store, superuser_url: str) -> None:
    """What a swap of tables by renaming could not promise."""
    await store.log.append([command(*(new_event("node.enrolled", node_id=f"n{n}") for n in range(20)))])
    await store.writer.catch_up()
    await execute(superuser_url, "UPDATE view_nodes SET doc = doc || '{\"cpu\": 9}'")
    reader = await asyncpg.connect(store.access.app_url, server_settings={"search_path": "trueup"})
    try:
        async with reader.transaction(isolation="repeatable_read"):
            await reader.fetchval("SELECT last_event_id FROM log_head")
            assert await store.rebuild("nodes") == 20
            assert await reader.fetchval("SELECT count(*) FROM view_nodes") == 20
    finally:
        await reader.close()


async def test_P6_who_reads_in_the_middle_of_a_rebuild_sees_the_rows_from_before(
    store: Store, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are written and nothing is committed: readers neither wait nor see a part."""
    await store.log.append([command(*(new_event("node.enrolled", node_id=f"n{n}") for n in range(20)))])
    await store.writer.catch_up()
    right = (await store.views.snapshot(["nodes"])).rows["nodes"]
    await execute(
        superuser_url, "UPDATE view_nodes SET doc = doc || '{\"cpu\": 9}'; DELETE FROM view_nodes WHERE key = 'n3'"
    )
    broken = (await store.views.snapshot(["nodes"])).rows["nodes"]
    written, go_on, mend = asyncio.Event(), asyncio.Event(), shadow.Shadow.mend

    async def mend_and_wait(self: shadow.Shadow) -> None:
        await mend(self)
        written.set()
        await go_on.wait()

    monkeypatch.setattr(shadow.Shadow, "mend", mend_and_wait)
    rebuilding = asyncio.ensure_future(store.rebuild("nodes"))
    try:
        await asyncio.wait_for(written.wait(), 20)
        async with asyncio.timeout(5):
            assert (await store.views.snapshot(["nodes"])).rows["nodes"] == broken
            assert await store.views.get("nodes", "n3") is None
    finally:
        go_on.set()
        assert await rebuilding == 20
    assert (await store.views.snapshot(["nodes"])).rows["nodes"] == right


async def test_a_projector_passes_over_a_view_that_a_rebuild_holds(store: Store) -> None:
    await append_all_kinds(store)
    holder = await asyncpg.connect(store.access.app_url)
    try:
        await holder.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", lock_name("nodes"))
        assert await store.writer.apply_page("nodes") == 0
        assert await store.writer.apply_page("resources") > 0
    finally:
        await holder.close()
    assert await store.writer.apply_page("nodes") > 0


async def test_two_rebuilds_of_a_view_do_not_run_at_once(store: Store) -> None:
    holder = await asyncpg.connect(store.access.app_url)
    try:
        await holder.execute("SELECT pg_advisory_lock(hashtextextended('trueup rebuild nodes', 0))")
        with pytest.raises(Transient) as caught:
            await store.rebuild("nodes")
        assert caught.value.code == "rebuild_running"
        assert await store.rebuild("sources") == 0
    finally:
        await holder.close()


async def test_rebuilds_and_projectors_and_writers_at_once_lose_nothing(store_settings: StoreSettings) -> None:
    async with opened_store(store_settings) as one, opened_store(store_settings) as two:
        done = asyncio.Event()

        async def write() -> None:
            for _ in range(15):
                await append_all_kinds(one)
                await one.writer.catch_up()
            done.set()

        async def rebuild_on_and_on() -> None:
            while not done.is_set():
                await two.rebuild_views()

        await asyncio.gather(write(), rebuild_on_and_on())
        await one.writer.catch_up()
        assert [each.keys for each in await two.rebuild_views(PROJECTIONS, verify=True) if each.differing] == []


async def test_pages_are_small_when_events_are_large(store: Store) -> None:
    blob = "x" * 2_000_000
    await store.log.append([command(*(new_event("node.enrolled", agent_version=blob) for _ in range(24)))])
    first, *later = [len(rows) async for rows in log_pages.pages(store._pool, 0, 24)]
    assert first + sum(later) == 24
    assert max(later) * len(blob) <= LOG_PAGE_BYTES_MAX


async def claims_of(url: str) -> dict[tuple[str, str], str]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "trueup"})
    try:
        return {
            (kind, key): owner for kind, key, owner in await connection.fetch("SELECT kind, key, owner FROM claims")
        }
    finally:
        await connection.close()


async def test_claims_are_rebuilt_from_the_log(store: Store, superuser_url: str) -> None:
    right = [
        Claim("resource", ROUTE, "shop"),
        Claim("hostname", "www.example.org:443", ROUTE),
        Claim("subnet", "fd00::/64", "node-a"),
        Claim("address", "fd00::1", "i-1"),
        Claim("volume_writer", VOLUME, "i-1"),
        Claim("use", ROUTE, "acme/shop/prod routes=1"),
        Claim("use", "i-1", "acme/shop/prod instances=1 memory_bytes=243269632"),
        Claim("limits", "acme/shop", "routes=20 volume_bytes=1099511627776"),
        Claim("fence", "scheduler", "token"),
    ]
    events = [new_event(kind) for kind in ("route.created", "node.enrolled", "instance.allocated", "quota.set")]
    await store.log.append([command(*events, take=right)])
    (found,) = await store.rebuild_views(["claims"], verify=True)
    assert found.keys == ()
    before = await claims_of(superuser_url)
    await execute(superuser_url, "DELETE FROM claims WHERE kind = 'address'")
    await execute(superuser_url, "UPDATE claims SET owner = 'another' WHERE kind = 'hostname'")
    assert before["quota", "acme/shop"] == (
        "routes=20 volume_bytes=1099511627776 | instances=1 memory_bytes=243269632 routes=1"
    )
    await execute(superuser_url, "UPDATE claims SET owner = ' | routes=9' WHERE kind = 'quota' AND key = 'acme'")
    await execute(superuser_url, "INSERT INTO claims VALUES ('volume_writer', 'gone', 'i-0', 1)")
    expected = (
        ("address:fd00::1", "missing"),
        ("hostname:www.example.org:443", "wrong"),
        ("quota:acme", "wrong"),
        ("volume_writer:gone", "extra"),
    )
    (found,) = await store.rebuild_views(["claims"], verify=True)
    assert found.keys == expected
    assert await claims_of(superuser_url) != before
    (found,) = await store.rebuild_views(["claims"])
    assert found.keys == expected
    assert await claims_of(superuser_url) == before, "the fence, which is not history, is left as it was"


async def test_views_and_claims_of_a_working_control_plane_are_what_its_log_says(store: Store) -> None:
    """What the deciders claim, and what follows from their events: two ways to the same table."""
    async with running(store) as controller:
        await controller.enrol("node-a")
        await controller.enrol("node-b")
        for version in ("v1", "v2"):
            web = process(version, replicas=2, ports=web_port())
            await controller.commit(volume(), app(web=web), route())
            await controller.settle()
        before = await claims_of(store.access.app_url)
        assert {kind for kind, _ in before} >= {"resource", "hostname", "subnet", "address"}
        assert [each for each in await store.rebuild_views(verify=True) if each.differing] == []
        await controller.commit(app(web=process("v3", replicas=1)), remove=(route().id,))
        await controller.settle()
        assert await claims_of(store.access.app_url) != before
        assert [each for each in await store.rebuild_views(verify=True) if each.differing] == []


async def test_an_archive_is_complete_goes_on_and_can_be_rebuilt_from(
    store: Store, superuser_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "FILE_EVENTS_MAX", 50)
    monkeypatch.setattr(archive, "READ_EVENTS", 7)
    await append_all_kinds(store, 3)
    await store.writer.catch_up()
    before, folder = await all_as_text(superuser_url), tmp_path / "archive"
    await store.archive(61, folder)
    manifest = await store.archive(91, folder)
    ends = [(each["first_event_id"], each["last_event_id"]) for each in manifest["files"]]
    assert ends == [(1, 50), (51, 60), (61, 90)]
    assert json.loads((folder / "MANIFEST.json").read_text()) == manifest
    for name in PROJECTIONS:
        await execute(superuser_url, f"TRUNCATE view_{name}")
    read: list[int] = []
    monkeypatch.setattr(log_pages, "PAGE", log_pages.PAGE.replace("event_id > $1", "event_id > greatest($1, 90)"))
    await store.rebuild_views(PROJECTIONS, archive=folder, progress=lambda event_id, upto: read.append(event_id))
    assert await all_as_text(superuser_url) == before, "the table's first 90 rows were not needed"


async def test_a_changed_or_foreign_archive_is_refused(store: Store, superuser_url: str, tmp_path: Path) -> None:
    await append_all_kinds(store)
    manifest = await store.archive(30, tmp_path)
    file = tmp_path / manifest["files"][0]["name"]
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Refusal, match="not what the manifest says"):
        await store.rebuild_views(["nodes"], archive=tmp_path)
    file.write_bytes(content)
    await execute(superuser_url, "UPDATE log_head SET log_id = 'another'")
    with pytest.raises(Refusal, match="holds the log"):
        await store.rebuild_views(["nodes"], archive=tmp_path)
    with pytest.raises(Refusal, match="holds the log"):
        await store.archive(31, tmp_path)


async def test_a_row_is_explained_step_by_step(store: Store) -> None:
    await store.log.append([command(new_event("app.created"), new_event("deployment.created"))])
    await store.log.append([command(new_event("route.created"), new_event("app.deleted"))])
    steps = [step async for step in store.trace("resources", APP)]
    assert [(step.event_type, step.row) for step in steps] == [
        ("app.created", "made"),
        ("deployment.created", "changed"),
        ("app.deleted", "gone"),
    ]
    assert steps[1].changed["deployment_id"] == "d-000000000001"
    assert "spec" not in steps[1].changed


async def test_lags_are_told_in_seconds(store: Store, superuser_url: str) -> None:
    assert set((await store.views.lags_s()).values()) == {0.0}
    await append_all_kinds(store)
    await store.writer.catch_up(["nodes"])
    lags_s = await store.views.lags_s()
    assert lags_s["nodes"] == 0.0 < lags_s["sources"] < 60


async def test_P4_a_snapshot_shows_rows_and_checkpoint_of_one_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the view moves between the two reads of the snapshot."""
    await store.log.append([command(new_event("node.enrolled"))])
    await store.writer.catch_up()
    checkpoints = view_mirror.CHECKPOINTS
    slow = f"WITH found AS MATERIALIZED ({checkpoints}) SELECT found.* FROM found, pg_sleep(0.5)"
    with monkeypatch.context() as patch:
        patch.setattr(view_mirror, "CHECKPOINTS", slow)
        reading = asyncio.ensure_future(store.views.snapshot(["nodes"]))
        await asyncio.sleep(0.2)
    await store.log.append([command(new_event("node.enrolled"))])
    await store.writer.catch_up()
    now = await reading
    assert (now.event_id, now.rows["nodes"]["node-a"]["updated_event_id"]) == (1, 1)


async def test_P4_reads_never_go_back_while_a_view_is_rebuilt_and_moved(store: Store) -> None:
    done = asyncio.Event()
    seen: list[tuple[int, int]] = []

    async def read() -> None:
        while not done.is_set():
            now = await store.views.snapshot(["nodes"])
            seen.append((now.event_id, now.rows["nodes"].get("node-a", {"updated_event_id": 0})["updated_event_id"]))

    async def write() -> None:
        for _ in range(20):
            await store.log.append([command(new_event("node.enrolled"))])
            await store.writer.catch_up(["nodes"])
            await store.rebuild("nodes")
        done.set()

    await asyncio.gather(read(), write())
    assert seen == sorted(seen)
    assert all(row == event_id for event_id, row in seen), "the checkpoint and the rows are of one moment"
