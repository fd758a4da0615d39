"""Two controllers, real processes, on one Postgres: one decides, both serve, and a kill or a pause costs seconds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrage
import pytest
import pytest_asyncio

from kit.codec import to_json
from kit.control_plane import ControlPlane
from kit.errors import TrueupError
from kit.sealed_file import FORM
from kit.wire import Enrolment
from reconciler.core.model import ResourceId
from reconciler.core.tokens import make_token
from reconciler.store import postmaster
from reconciler.store.roles import prepare_embedded
from reconciler.store.server import SUPERUSER, EmbeddedServer
from reconciler.vault import Vault
from reconciler.vault.sealing import sealed_for
from tests.acceptance.programs import Program
from tests.acceptance.repository import Repository
from tests.joining import as_machine

DEADLINE_S = 60.0
"""For what has to happen at all: a machine that is busy takes its time."""
TTL_S = 2.0
LEASES = ("acts", "git/main", "nodes", "scheduler")
IMAGE = "registry.example/site@sha256:" + "1" * 64
ENVIRONMENT = "apiVersion: trueup/v1\nkind: Environment\nmetadata:\n  name: prod\nspec:\n  description: people use it\n"
APP = f"""\
apiVersion: trueup/v1
kind: App
metadata: {{name: site, env: prod}}
spec:
  processes:
    web: {{image: {IMAGE}, memory: 128Mi, replicas: REPLICAS, ports: {{http: 8080}}, secrets: [keys]}}
"""


@dataclass
class Controller:
    """One `trueup controller`, with a state folder of its own."""

    name: str
    state: Path
    site: Path
    program: Program

    @property
    def url(self) -> str:
        return (self.state / "controller.url").read_text().strip()

    def control_plane(self) -> ControlPlane:
        return ControlPlane(self.url, make_token((self.site / "a" / "token.key").read_bytes(), "operator", "test"))

    async def get(self, path: str) -> Any:
        async with self.control_plane() as control_plane:
            return await control_plane.get_json(path)

    async def leases(self) -> dict[str, tuple[str, int]]:
        """Lease -> holder and epoch, as this controller shows them."""
        status = await self.get("/v1/status")
        return {each["lease"]: (each["holder"], each["epoch"]) for each in status["leases"] if each["held"]}

    async def holds_all(self) -> bool:
        found = await self.leases()
        return set(found) == set(LEASES) and {holder for holder, _ in found.values()} == {self.name}

    async def applied(self) -> str:
        sources = (await self.get("/v1/status"))["sources"]
        return str(sources[0]["applied_commit"]) if sources else ""

    async def last_event_id(self) -> int:
        return int((await self.get("/v1/status"))["last_event_id"])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.program.pid, number)


@dataclass
class Listener:
    """A reader of a change stream. `applied`: the commits that came; `last`: the type of the last line."""

    applied: list[str] = field(default_factory=list)
    last: str = ""

    @contextlib.asynccontextmanager
    async def listening(self, controller: Controller) -> AsyncIterator[None]:
        task = asyncio.create_task(self._listen(controller))
        try:
            await until(lambda: _true(bool(self.last) or task.done()), controller)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self, controller: Controller) -> None:
        async with controller.control_plane() as control_plane:
            async with control_plane.lines("/v1/stream", idle_timeout_s=30) as lines:
                async for line in lines:
                    self.last = line["type"]
                    if line["type"] == "change" and line["event"]["event_type"] == "revision.applied":
                        self.applied.append(line["event"]["payload"]["commit"])


async def _true(value: bool) -> bool:
    return value


@dataclass
class Site:
    """A repository, a database, and the controllers that were started on them."""

    folder: Path
    database_url: str
    repository: Repository
    started: list[Controller] = field(default_factory=list)

    async def start(self, name: str, *more: str, ready: bool = True) -> Controller:
        state = self.folder / name
        settings = {
            "repository": self.repository.origin,
            "state": state,
            "listen": "127.0.0.1:0",
            "database-url": self.database_url,
            "controller-name": name,
            "lease-ttl-s": TTL_S,
            "poll-interval-s": 0.5,
            "drain-timeout-s": 3,
            "log-format": "json",
        }
        flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        if self.started:
            first = self.started[0].state
            flags += ["--platform-key-file", str(first / "platform.agekey")]
            flags += ["--token-key-file", str(first / "token.key")]
            flags += ["--ca-folder", str(first / "ca")]
        command = [sys.executable, "-m", "reconciler", "controller", *flags, *more]
        made = Controller(name, state, self.folder, Program(name, command, self.folder / f"{name}.log"))
        (state / "controller.url").unlink(missing_ok=True)
        await made.program.start()
        self.started.append(made)
        if ready:
            await until(lambda: _is_ready(made), made)
        return made


async def _is_ready(controller: Controller) -> bool:
    assert controller.program.running, controller.program.tail()
    return (controller.state / "controller.url").exists()


async def exit_code(controller: Controller) -> int:
    await until(lambda: _true(not controller.program.running), controller)
    return await controller.program.stop()


async def until(condition: Callable[[], Awaitable[bool]], *controllers: Controller) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            if await condition():
                return
        except (TrueupError, OSError):
            pass  # it does not answer yet
        assert time.monotonic() < deadline_s, "".join(each.program.tail() for each in controllers)
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def site(superuser_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path, superuser_url, Repository.create(tmp_path))
    made.repository.write("env.yaml", ENVIRONMENT)
    made.repository.push("Begin")
    yield made
    for each in made.started:
        if each.program.running:
            each.signal(signal.SIGKILL)
            await each.program._process.wait()  # type: ignore[union-attr]  # it was started


def enrolment() -> dict[str, Any]:
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    return dict(to_json(Enrolment("node-a", "fd00:0:0:1::/64", 4 << 30, 2.0, 10 << 30, recipient, "tcg", "1")))


def push_app(site: Site, replicas: int) -> str:
    vault = Vault.open_or_create(site.started[0].state / "platform.agekey")
    keys = ResourceId("default", "default", "prod", "site", "secret", "keys")
    sealed = sealed_for(b"a value", keys, "KEY", vault.recipient_of("default", "default"))
    indented = "".join(f"      {line}\n" for line in sealed.strip().splitlines())
    site.repository.write(
        "keys.yaml",
        "apiVersion: trueup/v1\nkind: Secret\nmetadata: {name: keys, env: prod, app: site}\n"
        f"spec:\n  values:\n    KEY: |\n{indented}",
    )
    site.repository.write("site.yaml", APP.replace("REPLICAS", str(replicas)))
    return site.repository.push(f"Run {replicas}")


async def test_one_decides_both_serve_and_a_killed_leader_is_replaced(site: Site) -> None:
    a = await site.start("a")
    await until(a.holds_all, a)
    b = await site.start("b")
    assert await b.leases() == await a.leases()
    listener = Listener()
    async with as_machine(b.state, "node", "node-a") as control_plane, listener.listening(b):
        await control_plane.post_json("/v1/nodes/node-a/enrol", enrolment())
        await control_plane.post_json("/v1/nodes/node-a/heartbeat", {})
        ages = {each["node_id"]: each["heartbeat_age_s"] for each in (await a.get("/v1/status"))["nodes"]}
        assert ages["node-a"] < DEADLINE_S, "what b heard is known at a"
        first = push_app(site, 1)
        await until(lambda: _is(b.applied(), first), a, b)
        plan: Any = {}

        async def is_planned() -> bool:
            nonlocal plan
            plan = await control_plane.get_json("/v1/nodes/node-a/plan")
            return bool(plan["instances"])

        await until(is_planned, a, b)
        instance_id = plan["instances"][0]["instance_id"]
        answer = await control_plane.get_json(f"/v1/nodes/node-a/instances/{instance_id}/secret?form={FORM}")
        assert answer["sealed"], "out of the clone and with the key of the controller that does not lead"

        before = await a.leases()
        killed_s = time.monotonic()
        a.signal(signal.SIGKILL)
        await until(b.holds_all, b)
        assert time.monotonic() - killed_s < TTL_S + 20
        after = await b.leases()
        assert all(after[lease][1] == before[lease][1] + 1 for lease in LEASES)
        second = push_app(site, 2)
        await until(lambda: _is(b.applied(), second), b)

        async def two_are_planned() -> bool:
            return len((await control_plane.get_json("/v1/nodes/node-a/plan"))["instances"]) == 2

        await until(two_are_planned, b)
        assert listener.applied == [first, second], "one stream, whoever decided"


async def test_a_clean_stop_hands_over_at_once_and_exits_with_0(site: Site) -> None:
    a = await site.start("a", "--lease-ttl-s", "60")
    await until(a.holds_all, a)
    b = await site.start("b", "--lease-ttl-s", "60")
    assert await a.program.stop() == 0
    stopped_s = time.monotonic()
    await until(b.holds_all, b)
    assert time.monotonic() - stopped_s < 40, "nobody waited for a time to live of a minute"


async def test_a_leader_that_was_paused_writes_nothing_when_it_wakes(site: Site) -> None:
    """b, which has taken over, is paused as well while a wakes to new work: whatever is written then would be a's."""
    a = await site.start("a")
    await until(a.holds_all, a)
    async with as_machine(a.state, "node", "node-a") as control_plane:
        await control_plane.post_json("/v1/nodes/node-a/enrol", enrolment())
    commit = push_app(site, 1)
    await until(lambda: _is(a.applied(), commit), a)
    b = await site.start("b", "--lease-ttl-s", "60")
    a.signal(signal.SIGSTOP)
    await until(b.holds_all, a, b)
    c = await site.start("c", "--lease-ttl-s", "60")
    b.signal(signal.SIGSTOP)
    commit = push_app(site, 2)
    before = await c.last_event_id()
    a.signal(signal.SIGCONT)
    await until(lambda: _contains(a, "lease lost", len(LEASES)), a)
    a_stands_by_s = time.monotonic() + TTL_S
    while time.monotonic() < a_stands_by_s:
        assert await c.last_event_id() == before, a.program.tail()
        await asyncio.sleep(0.1)
    assert {holder for holder, _ in (await c.leases()).values()} == {"b"}
    assert a.program.running, "it stands by"
    b.signal(signal.SIGCONT)
    await until(lambda: _is(a.applied(), commit), a, b)


async def test_two_controllers_on_one_state_folder_and_one_without_the_keys_are_refused(site: Site) -> None:
    a = await site.start("a")
    again = await site.start("a", ready=False)
    assert await exit_code(again) == 1
    assert f"a controller runs on it, with pid {a.program.pid}" in again.program.tail()
    keyless = await site.start("b", "--platform-key-file", str(site.folder / "nowhere"), ready=False)
    assert await exit_code(keyless) == 1
    assert "copy it, with mode 600" in keyless.program.tail()
    assert not (site.folder / "nowhere").exists()


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedServer]:
    folder = Path(tempfile.mkdtemp(prefix="trueup-two-"))
    server = EmbeddedServer(folder / "postgres", settings={"fsync": "off"})
    server.start()
    asyncio.run(prepare_embedded(server.url(SUPERUSER, "postgres")))
    yield server
    server.close()
    for pid in postmaster.processes(folder / "postgres"):
        postmaster.signal_process(pid, signal.SIGKILL)
    shutil.rmtree(folder)


async def test_a_postgres_that_dies_and_comes_back_costs_only_time(own_postgres: EmbeddedServer, site: Site) -> None:
    site.database_url = own_postgres.url(SUPERUSER, "trueup")
    a = await site.start("a")
    await until(a.holds_all, a)
    listener = Listener()
    async with listener.listening(a):
        assert own_postgres.pid is not None
        os.kill(own_postgres.pid, signal.SIGKILL)
        await until(lambda: _contains(a, "lease not renewed", 1), a)
        await until(lambda: _contains(a, "lease lost", len(LEASES)), a)
        assert a.program.running
        assert (await a.get("/healthz"))["status"] == "ok"
        await asyncio.to_thread(own_postgres.start)
        await until(a.holds_all, a)
        commit = push_app(site, 1)
        await until(lambda: _is(a.applied(), commit), a)
        await until(lambda: _true(commit in listener.applied or listener.last == "end"), a)
    assert await a.program.stop() == 0


async def test_without_postgres_the_start_is_tried_for_a_bounded_time(site: Site) -> None:
    site.database_url = f"postgresql://x@/x?host={site.folder}"
    a = await site.start("a", "--start-timeout-s", "1", ready=False)
    assert await exit_code(a) == 6
    assert "the store does not open, trying again" in a.program.tail()
    b = await site.start("b", "--start-timeout-s", "60", ready=False)
    await until(lambda: _contains(b, "trying again", 1), b)
    assert await b.program.stop() == 0, "it can be stopped while it waits"


async def test_a_state_folder_without_space_is_told(site: Site) -> None:
    a = await site.start("a", ready=False)
    await a.program.stop(signal.SIGKILL)
    full = Program("full", ["prlimit", "--fsize=0", *a.program.command], site.folder / "full.pipe")
    reader = f"{' '.join(full.command)} 2>&1 | cat > {full.log}; exit ${{PIPESTATUS[0]}}"
    shutil.rmtree(a.state, ignore_errors=True)
    process = await asyncio.create_subprocess_exec("bash", "-c", reader)
    assert await process.wait() == 6, full.tail()
    assert f"write into the state folder {a.state}" in full.tail()
    assert "free disk space there" in full.tail()


async def _is(found: Awaitable[str], wanted: str) -> bool:
    return await found == wanted


async def _contains(controller: Controller, text: str, times: int) -> bool:
    lines = controller.program.log.read_text().splitlines()
    return sum(text in json.loads(line).get("msg", "") for line in lines if line.startswith("{")) >= times
