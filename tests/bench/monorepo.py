"""A repository of many apps, and a controller's real parts around it. Used by the benchmarks of large repositories.

Git, the reading process, the judge, the handlers, Postgres, the views: everything from a push to appended events, each
pass called by the benchmark itself, so that it is known what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pygit2

from kit.clock import SystemClock
from kit.pauses import keep_short
from reconciler.core.revisions import Source
from reconciler.core.views import PROJECTIONS
from reconciler.git.clone import BareClone
from reconciler.git.transport import FETCH_TIMEOUT_S
from reconciler.handlers import Handlers
from reconciler.ids import UlidIds
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from reconciler.tasks.git_sync import GitSync
from reconciler.tasks.projector import Projector
from reconciler.vault import Vault

ENVIRONMENT = "apiVersion: trueup/v1\nkind: Environment\nmetadata: {name: prod}\n"
DEFAULTS = """apiVersion: trueup/v1
kind: Defaults
metadata: {env: prod}
spec:
  variables: {registry: registry.example.com}
  process:
    memory: 128Mi
    ports: {https: 8443}
    health: {tcp: {port: https}, interval: 2s}
"""
APP = """apiVersion: trueup/v1
kind: App
metadata: {name: NAME}
spec:
  processes:
    web:
      image: ${registry}/site@sha256:DIGEST
      replicas: 2
      env: {ENVIRONMENT: "${env}", LEVEL: "LEVEL_NOW"}
      update: {surge: 1, drainGrace: 3s}
""".replace("DIGEST", "ab" * 32)
_FILE, _FOLDER = 0o100644, 0o040000
_WHO = pygit2.Signature("Dev", "dev@example.com", 1, 0)


@dataclass
class Monorepo:
    """`levels`: app -> what its manifest says now; a commit changes some of them."""

    path: Path
    levels: dict[str, str]
    head: str = ""
    _trees: dict[str, pygit2.Oid] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, apps: int) -> Monorepo:
        pygit2.init_repository(str(path), bare=True)
        repository = cls(path, {f"a{number:05d}": "info" for number in range(apps)})
        repository.change(repository.levels, "info")
        return repository

    @classmethod
    def at(cls, path: Path) -> Monorepo:
        """One that was made before."""
        git = pygit2.Repository(str(path))
        head = git.references["refs/heads/main"].peel(pygit2.Commit)
        apps = head.tree["apps"]
        assert isinstance(apps, pygit2.Tree)
        trees = {str(entry.name): entry.id for entry in apps}
        return cls(path, dict.fromkeys(trees, "info"), str(head.id), trees)

    def change(self, names: Iterable[str], level: str) -> str:
        """One commit; returns its id."""
        git = pygit2.Repository(str(self.path))
        for name in list(names):
            self.levels[name] = level
            text = APP.replace("NAME", name).replace("LEVEL_NOW", level)
            self._trees[name] = _tree(git, {"app.yaml": (_blob(git, text), _FILE)})
        root = {
            "apps": (_tree(git, {name: (oid, _FOLDER) for name, oid in self._trees.items()}), _FOLDER),
            "env.yaml": (_blob(git, ENVIRONMENT), _FILE),
            "defaults.yaml": (_blob(git, DEFAULTS), _FILE),
        }
        parents = [self.head] if self.head else []
        self.head = str(git.create_commit("refs/heads/main", _WHO, _WHO, f"Level {level}", _tree(git, root), parents))
        return self.head

    def pack(self) -> None:
        """As a forge does: loose objects would make the fetch the larger part of everything."""
        subprocess.run(["git", "-C", self.path, "gc", "-q"], check=True)


def _blob(git: pygit2.Repository, text: str) -> pygit2.Oid:
    return git.create_blob(text.encode())


def _tree(git: pygit2.Repository, entries: dict[str, tuple[pygit2.Oid, int]]) -> pygit2.Oid:
    builder = git.TreeBuilder()
    for name, (oid, mode) in entries.items():
        builder.insert(name, oid, mode)
    return builder.write()


class TimedClone(BareClone):
    """Keeps how long its fetches took: they wait for another program and for the network, and are told apart."""

    fetched_s = 0.0

    async def fetch(self, *, timeout_s: float = FETCH_TIMEOUT_S) -> str:
        started = time.monotonic()
        try:
            return await super().fetch(timeout_s=timeout_s)
        finally:
            self.fetched_s += time.monotonic() - started


@dataclass
class Parts:
    store: Store
    sync: GitSync
    handlers: Handlers

    async def apply(self) -> tuple[float, float]:
        """What is at the head of the branch. Seconds of the fetch, and of all that follows, until the events are
        appended."""
        clone = self.sync.branch.clone
        assert isinstance(clone, TimedClone)
        clone.fetched_s = 0.0
        started = time.monotonic()
        looked = await self.sync.step()
        seconds = time.monotonic() - started
        assert looked.result == "applied", looked
        return clone.fetched_s, seconds - clone.fetched_s

    async def caught_up(self) -> None:
        head = await self.store.log.head()
        await self.store.views.wait_for(head.last_event_id, PROJECTIONS, 600.0)

    def reader_peak_mib(self) -> float:
        """Of the reading process."""
        assert self.sync.reading.process.pid
        return peak_mib(self.sync.reading.process.pid)

    async def held(self) -> int:
        """How many apps are held back."""
        row = await self.store.views.get("sources", self.sync.source.source_id) or {}
        return len(row.get("held_back") or {})


def p95_ms(seconds: Sequence[float]) -> float:
    return round(statistics.quantiles(seconds, n=20)[18] * 1000, 1)


def own_peak_mib() -> float:
    """Of this process, with everything that it has imported."""
    return peak_mib("self")


def peak_mib(pid: int | str) -> float:
    """As the kernel counts it for the program; what getrusage says of a process has that in it which started it."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


@contextlib.asynccontextmanager
async def running(folder: Path, repository: Path) -> AsyncIterator[Parts]:
    """The projector runs by itself; `GitSync.step` is called by whoever measures."""
    keep_short()
    clock, rng = SystemClock(), random.Random(1)
    async with opened_store(StoreSettings(state_dir=folder)) as store:
        handlers = Handlers(store.log, store.views, UlidIds(), clock)
        source = Source("main", "acme", "shop", str(repository))
        sync = GitSync(
            source=source,
            clone=TimedClone(folder, source),
            resolve=Vault.open_or_create(folder / "platform.agekey").resolve,
            log=store.log,
            views=store.views,
            see=handlers.see_revision,
            submit=handlers.submit_revision,
            refuse=handlers.refuse_revision,
            clock=clock,
            rng=rng,
        )
        projector = Projector(store.log, store.writer, sorted(PROJECTIONS), clock, rng)
        stop = asyncio.Event()
        loop = asyncio.create_task(projector.run(stop))
        try:
            await handlers.register_source(source)
            yield Parts(store, sync, handlers)
        finally:
            stop.set()
            await loop
            sync.reading.close()
