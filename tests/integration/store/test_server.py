"""The embedded server: it outlives what uses it, never blocks the next start, and is closed to others."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from kit.errors import Refusal, Transient
from reconciler.core.commands import Appended
from reconciler.store import postmaster
from reconciler.store.server import SUPERUSER, EmbeddedServer
from reconciler.store.settings import StoreSettings
from reconciler.store.store import open_store, opened_store
from tests.integration.store.building import command, node_event

FAST = {"fsync": "off"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder that initdb has made; each test works on a copy."""
    folder = Path(tempfile.mkdtemp(prefix="trueup-server-"))
    server = EmbeddedServer(folder / "postgres", settings=FAST)
    server.start()
    server.close()
    yield folder / "postgres"
    shutil.rmtree(folder)


@pytest.fixture
def data(made: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trueup-server-"))
    subprocess.run(["cp", "-a", str(made), str(folder / "postgres")], check=True)
    yield folder / "postgres"
    for pid in postmaster.processes(folder / "postgres"):
        postmaster.signal_process(pid, signal.SIGKILL)
    shutil.rmtree(folder)


def answers(server: EmbeddedServer) -> bool:
    async def ask() -> bool:
        connection = await asyncpg.connect(server.url(SUPERUSER, "postgres"))
        try:
            return bool(await connection.fetchval("SELECT true"))
        finally:
            await connection.close()

    return asyncio.run(ask())


def wait_until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]  # a callable
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_starts_joins_and_the_last_user_stops_it(data: Path) -> None:
    one, two = EmbeddedServer(data, settings=FAST), EmbeddedServer(data, settings=FAST)
    one.start()
    two.start()
    assert one.pid == two.pid
    one.close()
    assert answers(two)
    two.close()
    assert postmaster.processes(data) == set()
    assert not (data / "postmaster.pid").exists(), "a clean shutdown"


def test_nobody_else_can_reach_it(data: Path) -> None:
    server = EmbeddedServer(data, settings=FAST)
    server.start()
    try:
        assert data.stat().st_mode & 0o077 == 0
        assert (data / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0
        listening = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True).stdout
        assert f"pid={server.pid}," not in listening
    finally:
        server.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from reconciler.store.server import EmbeddedServer
EmbeddedServer(Path(sys.argv[1]), settings={"fsync": "off"}).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_outlives_a_killed_controller_and_the_next_one_joins_and_can_stop_it(data: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(data)], cwd=Path(__file__).parents[3], check=False)
    left = postmaster.running(data)
    assert left is not None
    server = EmbeddedServer(data, settings=FAST)
    server.start()
    assert server.pid == left.pid
    assert answers(server)
    server.close()
    assert postmaster.processes(data) == set()


def test_it_starts_again_after_a_kill_9_although_its_zombie_is_our_child(data: Path) -> None:
    server = EmbeddedServer(data, settings=FAST)
    server.start()
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not server.is_running())
    server.start()
    assert server.pid != first
    assert answers(server)
    server.close()


def test_it_starts_again_after_a_kill_9_although_the_parent_of_its_zombie_does_not_look(data: Path) -> None:
    parent, server = EmbeddedServer(data, settings=FAST), EmbeddedServer(data, settings=FAST)
    parent.start()
    server.start()
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)  # the parent does not look
    wait_until(lambda: not server.is_running())
    server.start()
    assert answers(server)
    server.close()
    parent.close()


def test_a_stale_pid_file_whose_pid_belongs_to_another_program_does_not_block(data: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (data / name).write_text(f"{other.pid}\n{data}\n1700000000\n5432\n{data}\n\n  1 2\nready\n")
        server = EmbeddedServer(data, settings=FAST)
        server.start()
        assert answers(server)
        server.close()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("torn", ["", "12", "not a number\n"])
def test_a_torn_pid_file_does_not_block(data: Path, torn: str) -> None:
    (data / "postmaster.pid").write_text(torn)
    server = EmbeddedServer(data, settings=FAST)
    server.start()
    server.close()


def test_a_folder_whose_path_is_too_long_for_a_socket_works(data: Path) -> None:
    deep = data.parent / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    data.rename(deep / "postgres")
    server = EmbeddedServer(deep / "postgres", settings=FAST)
    server.start()
    try:
        assert answers(server)
        again = EmbeddedServer(deep / "postgres", settings=FAST)
        again.start()
        assert answers(again)
        again.close()
        assert answers(server)
        elsewhere = Path(postmaster.running(deep / "postgres").socket_folder)  # type: ignore[union-attr]  # it runs
        assert elsewhere != deep / "postgres"
        assert elsewhere.stat().st_mode & 0o077 == 0
    finally:
        server.close()
    assert not elsewhere.exists()


def test_a_folder_below_closed_folders_works_and_stays_closed(data: Path) -> None:
    data.parent.chmod(0o700)
    server = EmbeddedServer(data, settings=FAST)
    server.start()
    try:
        assert answers(server)
        assert data.parent.stat().st_mode & 0o007 == 0, "passing is granted to one user, not to everybody"
    finally:
        server.close()


def test_a_folder_of_another_major_version_is_refused(data: Path) -> None:
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(Refusal, match="made by Postgres 9") as caught:
        EmbeddedServer(data, settings=FAST).start()
    assert caught.value.code == "postgres_data_version"


def test_a_server_that_cannot_start_says_why(data: Path) -> None:
    with pytest.raises(Transient, match="no_such_setting") as caught:
        EmbeddedServer(data, settings={"no_such_setting": "1"}).start()
    assert caught.value.code == "postgres_start_failed"


def test_an_interrupted_initdb_is_done_again(data: Path) -> None:
    """A crash while initdb's result is moved into place leaves no PG_VERSION, for that comes last."""
    (data / "PG_VERSION").unlink()
    (data / ".initdb").mkdir()
    server = EmbeddedServer(data, settings=FAST)
    server.start()
    assert answers(server)
    server.close()


async def test_the_store_brings_its_server_back_when_it_dies(data: Path) -> None:
    async with opened_store(StoreSettings(data.parent)) as store:
        await store.log.append([command(node_event())])
        pid = store._server.pid if store._server else None
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        (result,) = await store.log.append([command(node_event())])
        assert isinstance(result, Appended)
        assert await store.log.wait_past(1, 20) == 2
    assert postmaster.processes(data) == set()


async def test_a_server_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    url = f"postgresql://x@/x?host={tmp_path}"
    with pytest.raises(Transient) as caught:
        await open_store(StoreSettings(tmp_path, database_url=url))
    assert caught.value.code == "postgres_unavailable"
    assert str(tmp_path) in str(caught.value) or "connect to Postgres" in str(caught.value)
