"""The archive: proved by the chain, named where it is damaged, gone on with after a kill."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.errors import Refusal, Transient
from reconciler.cli.main import main
from reconciler.store import archive
from reconciler.store.archive_chain import verify_archive
from reconciler.store.pool import connect
from reconciler.store.store import Store
from reconciler.store.verify import Verdict, read_head
from tests.integration.store.building import command, node_event
from tests.integration.store.test_views import append_all_kinds


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FILE_EVENTS_MAX", 20)
    monkeypatch.setattr(archive, "READ_EVENTS", 7)


async def proved(store: Store, folder: Path) -> Verdict:
    connection = await connect(store.access.app_url)
    try:
        return await verify_archive(connection, folder, await read_head(connection))
    finally:
        await connection.close()


async def filled(store: Store, folder: Path) -> Path:
    await append_all_kinds(store, 2)
    odd = "ü\x1f:\n\u2028" + "ß" * 9
    await store.log.append([command(node_event(odd, '{"a": 1e22}'))])
    await store.archive((await store.log.head()).last_event_id + 1, folder)
    return folder


@pytest.mark.usefixtures("small_files")
async def test_L5_the_chain_holds_through_every_file(store: Store, tmp_path: Path) -> None:
    folder = await filled(store, tmp_path / "archive")
    last = (await store.log.head()).last_event_id
    assert await proved(store, folder) == Verdict(last, last)
    assert len(list(folder.glob("*.gz"))) > 2
    await append_all_kinds(store)
    assert (await proved(store, folder)).checked == last, "the log goes on"


def edit(folder: Path, number: int, change: Callable[[list[bytes]], list[bytes]]) -> Path:
    """Changes a file and its digest in the manifest, as somebody would who knows the format."""
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    path: Path = folder / manifest["files"][number]["name"]
    lines = change(gzip.decompress(path.read_bytes()).splitlines(keepends=True))
    path.write_bytes(gzip.compress(b"".join(lines)))
    manifest["files"][number]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    return path


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(
    ("change", "first_bad"),
    [
        (lambda lines: [*lines[:3], lines[3].replace(b'"actor_type":"', b'"actor_type": "x'), *lines[4:]], 24),
        (lambda lines: [*lines[:3], *lines[4:]], 24),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 21),
        (lambda lines: lines[:-1], 40),
    ],
)
async def test_L5_an_archive_that_was_changed_together_with_its_manifest_is_found(
    store: Store, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], first_bad: int
) -> None:
    folder = await filled(store, tmp_path / "archive")
    edit(folder, 1, change)
    assert (await proved(store, folder)).first_bad == first_bad


@pytest.mark.usefixtures("small_files")
async def test_a_damaged_or_missing_file_is_named_by_verify_and_rebuild(
    store: Store, superuser_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = await filled(store, tmp_path / "archive")
    name = json.loads((folder / "MANIFEST.json").read_text())["files"][1]["name"]
    content = (folder / name).read_bytes()

    async def said(*argv: str) -> str:
        capsys.readouterr()
        where = ["--archive", str(folder), "--database-url", superuser_url]
        assert await asyncio.to_thread(main, [*argv, *where]) != 0
        return capsys.readouterr().err

    half = content[: len(content) // 2]
    for damage, why in ((half, "not what the manifest says"), (b"", "not what"), (None, "missing")):
        (folder / name).unlink()
        if damage is not None:
            (folder / name).write_bytes(damage)
        for argv in (("log", "verify"), ("views", "rebuild", "nodes")):
            told = await said(*argv)
            assert name in told and why in told
        (folder / name).write_bytes(content)
    where = ["--archive", str(folder), "--database-url", superuser_url, "--output", "json"]
    capsys.readouterr()
    assert await asyncio.to_thread(main, ["log", "verify", *where]) == 0
    assert json.loads(capsys.readouterr().out)["archived"] == (await store.log.head()).last_event_id


ARCHIVING = """
import asyncio, sys
from pathlib import Path
from reconciler.store import archive
from reconciler.store.pool import open_pool
archive.FILE_EVENTS_MAX, archive.READ_EVENTS = 20, 2

def tell(done, upto):
    print(done, flush=True)

async def run():
    pool = await open_pool(sys.argv[1], connections_max=2)
    await archive.Archiver(pool).archive(int(sys.argv[2]), Path(sys.argv[3]), tell)

asyncio.run(run())
"""


async def test_an_archive_that_was_killed_is_gone_on_with(store: Store, tmp_path: Path) -> None:
    """kill -9 after each file that it has told of, which is in the middle of the next one."""
    await append_all_kinds(store, 5)
    before, folder, kills = (await store.log.head()).last_event_id + 1, tmp_path / "archive", 0
    while True:
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ARCHIVING, store.access.app_url, str(before), str(folder),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert running.stdout is not None
        async with asyncio.timeout(60):
            if not await running.stdout.readline():
                break
            running.send_signal(signal.SIGKILL)
            kills += await running.wait() == -signal.SIGKILL
    assert await running.wait() == 0
    assert kills > 2
    assert (await proved(store, folder)).checked == before - 1
    named = {each["name"] for each in json.loads((folder / "MANIFEST.json").read_text())["files"]}
    assert {path.name for path in folder.iterdir()} == {"MANIFEST.json", *named}, "nothing half is left"
    manifest = await store.archive(before, folder)
    ends = [(each["first_event_id"], each["last_event_id"]) for each in manifest["files"]]
    assert [first for first, _ in ends] == [1, *(last + 1 for _, last in ends[:-1])]


async def test_two_runs_into_one_folder_do_not_meet(store: Store, tmp_path: Path) -> None:
    await append_all_kinds(store)
    with archive._alone(tmp_path), pytest.raises(Transient) as caught:
        await store.archive(10, tmp_path)
    assert caught.value.code == "archive_running"
    assert (await store.archive(10, tmp_path))["files"][-1]["last_event_id"] == 9
    with pytest.raises(Refusal, match="the log has the events"):
        await store.archive(10_000, tmp_path)
