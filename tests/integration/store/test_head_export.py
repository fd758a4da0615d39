"""L5: a controller adds signed heads to a place that it cannot rewrite, and what goes wrong there stays there."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from kit.errors import Refusal, Transient
from reconciler.cli.main import main
from reconciler.store import head_exporter
from reconciler.store.head_exporter import HeadExporter
from reconciler.store.heads import export_head, newest_head, private_key, read_heads
from reconciler.store.store import Store
from reconciler.store.verify import read_head
from reconciler.tasks.head_export import HeadExport
from tests.integration.store.building import command, node_event
from tests.integration.store.test_chain import key_file, owner

__all__ = ["key_file", "owner"]


@pytest_asyncio.fixture(params=["folder", "file"])
async def place(
    request: pytest.FixtureRequest, store: Store, owner: asyncpg.Connection[Any], key_file: Path, tmp_path: Path
) -> Path:
    """With its first head, of the empty log."""
    path = tmp_path / "heads"
    if request.param == "folder":
        path.mkdir()
    export_head(path, private_key(key_file), await read_head(owner), "at first")
    return path


def exported(place: Path, key_file: Path) -> list[int]:
    return [each.head.event_id for each in read_heads(place, private_key(key_file).public_key())]


def contents(place: Path) -> dict[str, bytes]:
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return {path.name: path.read_bytes() for path in files}


async def test_L5_a_head_is_added_when_the_log_has_moved_and_nothing_is_changed(
    store: Store, place: Path, key_file: Path
) -> None:
    exporter = store.head_exporter(place, key_file)
    assert await exporter.export() == 0
    assert exported(place, key_file) == [0], "it has not moved"
    for number in (1, 2):
        before = contents(place)
        await store.log.append([command(node_event())])
        assert await exporter.export() == number
        assert await exporter.export() == number
        after = contents(place)
        assert all(after[name].startswith(content) for name, content in before.items())
    assert exported(place, key_file) == [0, 1, 2]


async def test_L5_an_exporter_signs_nothing_that_speaks_against_what_it_signed(
    store: Store, owner: asyncpg.Connection[Any], place: Path, key_file: Path
) -> None:
    exporter = store.head_exporter(place, key_file)
    await store.log.append([command(*[node_event()] * 4)])
    await exporter.export()
    await owner.execute(
        "DELETE FROM events WHERE event_id > 2; DELETE FROM commands; UPDATE log_head SET last_event_id = 2,"
        " head_hash = (SELECT hash FROM events WHERE event_id = 2)"
    )
    with pytest.raises(Refusal) as caught:
        await exporter.export()
    assert caught.value.code == "log_tampered"
    await store.log.append([command(*[node_event("other")] * 4)])
    with pytest.raises(Refusal, match="event 4 had another hash"):
        await exporter.export()
    assert exported(place, key_file) == [0, 4]


async def test_the_chain_is_never_begun_anew_and_no_folder_is_made(
    store: Store, key_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "not mounted").mkdir()
    for path in (tmp_path / "not mounted", tmp_path / "nowhere" / "heads", tmp_path / "no file"):
        with pytest.raises(Refusal) as caught:
            await store.head_exporter(path, key_file).export()
        assert caught.value.code == "heads_missing"
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "not mounted").iterdir()) == []
    with pytest.raises(Refusal) as caught:
        await store.head_exporter(tmp_path / "not mounted", tmp_path / "no.key").export()
    assert caught.value.code == "key_invalid"


async def test_a_head_that_a_crash_cut_off_is_passed_over_and_none_can_be_made_to_look_so(
    store: Store, place: Path, key_file: Path
) -> None:
    exporter, key = store.head_exporter(place, key_file), private_key(key_file).public_key()
    await store.log.append([command(node_event())])
    await exporter.export()
    torn = b'{"log_id": "as far as it ca'
    if place.is_dir():
        (place / "head-000000000003.json").write_bytes(torn)
    else:
        place.write_bytes(place.read_bytes() + torn)
    assert exported(place, key_file) == [0, 1]
    await store.log.append([command(node_event())])
    assert await exporter.export() == 2
    assert exported(place, key_file) == [0, 1, 2]
    if place.is_dir():
        second = place / "head-000000000002.json"
        second.write_bytes(second.read_bytes()[:50])
    else:
        lines = place.read_bytes().splitlines(keepends=True)
        place.write_bytes(b"".join([lines[0], lines[1][:50] + b"\n", *lines[2:]]))
    with pytest.raises(Refusal, match="does not follow"):
        read_heads(place, key)


async def test_two_that_export_at_once_leave_what_can_be_verified(store: Store, place: Path, key_file: Path) -> None:
    exporters = [store.head_exporter(place, key_file) for _ in range(3)]
    for _ in range(6):
        await store.log.append([command(node_event())])
        results = await asyncio.gather(*(each.export() for each in exporters), return_exceptions=True)
        assert any(isinstance(result, int) for result in results)
        for result in results:
            assert isinstance(result, int) or (isinstance(result, Transient) and result.code == "heads_overtaken")
    assert set(exported(place, key_file)) == set(range(7))


async def test_a_head_that_two_follow_can_be_read_and_not_be_left_out(
    owner: asyncpg.Connection[Any], place: Path, key_file: Path
) -> None:
    """As when a holder wakes that was about to write when it lost its lease."""
    if not place.is_dir():
        return  # in one file the kernel's lock keeps them apart
    key, late = private_key(key_file), place / "head-000000000002.json"
    late.write_bytes(b"")  # begun, and nothing is in it yet
    export_head(place, key, await read_head(owner), "the next holder")
    third = place / "head-000000000003.json"
    content = third.read_bytes()
    third.unlink()
    late.unlink()
    export_head(place, key, await read_head(owner), "the one that woke")
    third.write_bytes(content)
    assert exported(place, key_file) == [0, 0, 0]
    (place / "head-000000000001.json").unlink()
    with pytest.raises(Refusal, match="does not follow"):
        exported(place, key_file)


async def test_a_place_that_hangs_or_cannot_be_written_is_trouble_and_no_more(
    store: Store, place: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, answered = store.head_exporter(place, key_file), threading.Event()

    def hangs(*arguments: Any) -> Any:
        answered.wait()
        return newest_head(*arguments)

    monkeypatch.setattr(head_exporter, "newest_head", hangs)
    monkeypatch.setattr(head_exporter, "FILES_TIMEOUT_S", 0.2)
    for why in ("did not answer within", "has not answered the question before"):
        with pytest.raises(Transient, match=why):
            await exporter.export()
    answered.set()
    monkeypatch.undo()
    async with asyncio.timeout(10):
        while exporter._busy:
            await asyncio.sleep(0.01)
    await store.log.append([command(node_event())])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Transient, match="No space left"):
            await exporter.export()
    assert await exporter.export() == 1


async def test_the_loop_goes_on_through_trouble_and_tells_it(store: Store, place: Path, key_file: Path) -> None:
    exporter: HeadExporter = store.head_exporter(place, key_file)
    away = place.with_name("away")
    place.rename(away)
    loop, stop = HeadExport(exporter.export, random.Random(1), interval_s=0.2), asyncio.Event()
    running = asyncio.create_task(loop.run(stop))
    await until(lambda: "perhaps it is not mounted" in loop.trouble or "not there" in loop.trouble)
    await store.log.append([command(node_event())])
    away.rename(place)
    await until(lambda: exported(place, key_file) == [0, 1])
    await until(lambda: loop.trouble == "")
    stop.set()
    await asyncio.wait_for(running, 5)


async def test_L5_the_command_line_begins_a_folder_and_checks_every_head_of_it(
    store: Store, superuser_url: str, key_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "heads"
    folder.mkdir()

    async def log(action: str, option: str) -> int:
        where = [option, str(folder), "--key", str(key_file), "--database-url", superuser_url]
        return await asyncio.to_thread(main, ["log", action, *where])

    assert await log("export-head", "--output") == 0
    for _ in range(3):
        await store.log.append([command(node_event())])
        await store.head_exporter(folder, key_file).export()
    assert await log("verify", "--heads") == 0
    second = folder / "head-000000000002.json"
    document = json.loads(second.read_bytes())
    second.write_text(json.dumps({**document, "event_id": 7}))
    assert await log("verify", "--heads") == 1
    assert await log("export-head", "--output") == 0, "it looks at the newest; all of them are verify's matter"


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)
