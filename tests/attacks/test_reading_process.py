"""A file that crashes, starves or stalls whatever reads it costs its commit, and nothing else."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from kit.errors import Transient
from reconciler.core.model import ResourceId
from reconciler.core.revisions import Source
from reconciler.git.bounded.limits import Limits
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import BoundedSource, RemoteObjects
from reconciler.git.reading_ended import ReadingEnded
from reconciler.tasks.git_sync import GitSync
from reconciler.vault import Vault, resolve_offline
from tests.integration.git.platform import Platform, sync_for
from tests.integration.git.repository import SITE, Repository
from tests.unit.planner.trees import app, secret

HOSTILE = ("-m", "tests.attacks.hostile_reader")
LIMITS = Limits(memory_bytes=512 << 20, question_s=60.0, file_cpu_s=1.0)
DEATHS = {
    "segfault": "SIGSEGV",
    "loop": "more than 1 s of the processor",
    "sleep": "longer than 4 s",
    "eat": "more than 512 MiB of memory",
    "babble": "protocol",
    "lie": "wrong shape",
    "exit": "status 9",
    "stop": "longer than 4 s",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def hostile(platform: Platform, tmp_path: Path, repository: Repository, limits: Limits = LIMITS) -> GitSync:
    reading = ReadingProcess(limits, HOSTILE)
    return sync_for(platform, tmp_path / "state", str(repository.path), reading=reading)


@pytest.mark.parametrize("kind", DEATHS)
async def test_a_file_that_ends_its_reader(repository: Repository, tmp_path: Path, kind: str) -> None:
    """The commit is refused with the file's name, what is applied stays, and the next good commit is applied."""
    limits = LIMITS if kind not in ("sleep", "stop") else Limits(question_s=4.0)
    platform = Platform()
    first = repository.commit(SITE)
    sync = hostile(platform, tmp_path, repository, limits)
    assert (await sync.step()).result == "applied"
    bad = repository.commit({"deep/bad.yaml": f"# {kind}\n"})
    looked = await sync.step()
    assert (looked.result, looked.commit) == ("refused", bad)
    assert [each.code for each in looked.findings] == ["reading_ended"]
    if kind not in ("babble", "lie"):  # a process that goes on may be at another file when it is found out
        assert looked.findings[0].path == "deep/bad.yaml"
    assert DEATHS[kind] in looked.findings[0].message
    assert len(platform.rows) == 4
    repository.commit({"apps/site/app.yaml": app(more="      replicas: 2\n")}, remove=("deep",))
    assert (await sync.step()).result == "applied"
    assert platform.applied[-1][0].base == first
    assert [change.verb for change in platform.applied[-1][0].changes] == ["update"]
    sync.reading.close()


async def test_what_a_library_prints_is_no_answer(repository: Repository, tmp_path: Path) -> None:
    repository.commit({**SITE, "loud.yaml": "# print\n"})
    sync = hostile(Platform(), tmp_path, repository)
    assert (await sync.step()).result == "applied"
    sync.reading.close()


async def test_the_loop_and_its_neighbours_go_on(repository: Repository, tmp_path: Path) -> None:
    """While one source's reader loops, the event loop turns, and another source is followed."""
    other = Repository(tmp_path / "other")
    other.commit(SITE)
    repository.commit({**SITE, "bad.yaml": "# loop\n"})
    bad, good = Platform(), Platform()
    stop = asyncio.Event()
    followed = hostile(bad, tmp_path, repository)
    neighbour = sync_for(good, tmp_path / "other-state", str(other.path))
    running = [asyncio.create_task(each.run(stop)) for each in (followed, neighbour)]
    worst_s, turned = 0.0, 0
    try:
        async with asyncio.timeout(60):
            while not (bad.refused and good.applied):
                began = time.monotonic()
                await asyncio.sleep(0.01)
                worst_s, turned = max(worst_s, time.monotonic() - began), turned + 1
            repository.commit(remove=("bad.yaml",))
            followed.look()
            while not bad.applied:
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*running), 20)
    assert worst_s < 1.0
    assert turned > 50
    assert followed.reading.process.pid is None


async def test_what_is_applied_can_become_unreadable(repository: Repository, tmp_path: Path) -> None:
    """A file that an older program could read ends the reader of a newer one: the fix is still compared with what is
    applied, from the views."""
    platform = Platform()
    repository.commit(SITE | {"extra.yaml": "# eat\n"})
    await sync_for(platform, tmp_path / "state", str(repository.path)).step()
    assert len(platform.applied) == 1
    repository.commit(remove=("extra.yaml", "apps/site/route.yaml"))
    sync = hostile(platform, tmp_path, repository)
    assert (await sync.step()).result == "applied"
    assert [change.verb for change in platform.applied[-1][0].changes] == ["delete"]
    sync.reading.close()


def test_a_question_can_be_cut_off_from_another_thread(repository: Repository) -> None:
    commit = repository.commit({"bad.yaml": "# sleep\n"})
    process = ReadingProcess(Limits(), HOSTILE)
    bounded = BoundedSource(repository.path, Source("main", "o", "p", "/x"), resolve_offline, process)
    ended: list[Exception] = []

    def read() -> None:
        try:
            bounded.reader.read(commit)
        except Transient as error:
            ended.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    while process.pid is None:
        time.sleep(0.01)
    time.sleep(0.2)
    bounded.close()
    thread.join(10)
    assert not thread.is_alive(), "it is not tried again: somebody wants to stop"
    assert bounded.process.pid is None
    assert not isinstance(ended[0], ReadingEnded), "the file is not to blame"


def test_the_process_holds_no_key_and_no_setting(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the controller is in its environment, its arguments or its open files."""
    monkeypatch.setenv("TRUEUP_DATABASE_URL", "postgresql://trueup:hunter2@db/x")
    vault = Vault.open_or_create(tmp_path / "platform.agekey")
    commit = repository.commit({"s.yaml": secret("tls")})
    process = ReadingProcess()
    objects = RemoteObjects(process, repository.path)
    held = os.open(tmp_path / "platform.agekey", os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        assert objects.commit(commit).tree
        folder = Path(f"/proc/{process.pid}")
        seen = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        files = [os.readlink(each) for each in (folder / "fd").iterdir()]
    finally:
        os.close(held)
    assert b"hunter2" not in seen
    assert b"TRUEUP" not in seen
    assert not [each for each in files if "agekey" in each or "socket" in each]
    identity = ResourceId("o", "p", "prod", "site", "secret", "tls")
    sealed = objects.sealed(repository.git("rev-parse", "HEAD:s.yaml"), identity)
    assert set(sealed.values) == {"KEY"}
    assert "BEGIN AGE" in sealed.values["KEY"], "the values come back as they are in Git"
    assert vault.recipient_of("org", "project")
    process.close()


def test_the_limits_are_set(repository: Repository) -> None:
    repository.commit(SITE)
    process = ReadingProcess()
    RemoteObjects(process, repository.path).resolve("HEAD")
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    process.close()
    rows = {line[:26].strip(): line[26:].split() for line in limits.splitlines()}
    assert rows["Max address space"][:2] == [str(1 << 30)] * 2
    assert rows["Max core file size"][:2] == ["0", "0"]
    assert rows["Max file size"][:2] == [str(16 * 1024)] * 2
    assert rows["Max cpu time"][0].isdigit()


def test_a_process_that_nobody_asks_ends_with_its_owner(repository: Repository) -> None:
    repository.commit(SITE)
    process = ReadingProcess()
    RemoteObjects(process, repository.path).resolve("HEAD")
    pid = process.pid
    del process
    import gc

    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid or 0, 0)
