"""A real controller (git, Postgres, HTTP) with the command line in front of it and an agent that only pretends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kit import follow
from kit.codec import from_json, to_json
from kit.control_plane import ControlPlane
from kit.machine_names import MachineKind
from kit.wire import Endpoint, Enrolment, InstanceReport, NodePlan, NodeReport
from reconciler import bootstrap
from reconciler.cli.main import main
from reconciler.settings import ControllerSettings
from tests.acceptance.repository import Repository
from tests.joining import as_machine

DEADLINE_S = 30.0
IMAGE = "registry.example/site@sha256:" + "1" * 64
ENVIRONMENT = "apiVersion: trueup/v1\nkind: Environment\nmetadata:\n  name: prod\nspec:\n  description: people use it\n"
APP = f"""\
apiVersion: trueup/v1
kind: App
metadata:
  name: site
  env: prod
spec:
  processes:
    web:
      image: {IMAGE}
      memory: 128Mi
      replicas: 1
      ports: {{http: 8080}}
"""


@dataclass
class Fleet:
    repository: Repository
    state: Path
    url: str = ""

    async def run(self, *argv: str) -> int:
        return await asyncio.to_thread(main, [*argv, "--state", str(self.state)])

    def machine(self, kind: MachineKind, name: str) -> AbstractAsyncContextManager[ControlPlane]:
        return as_machine(self.state, kind, name)


@pytest_asyncio.fixture
async def fleet(
    request: pytest.FixtureRequest, superuser_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fleet]:
    """Its first commit may be given as the parameter: (env.yaml, site.yaml)."""
    environment, app = getattr(request, "param", (ENVIRONMENT, APP))
    for name in ("TRUEUP_CONTROLLER", "TRUEUP_TOKEN", "TRUEUP_STATE"):
        monkeypatch.delenv(name, raising=False)
    made = Fleet(Repository.create(tmp_path), tmp_path / "state")
    made.repository.write("env.yaml", environment)
    made.repository.write("site.yaml", app)
    made.repository.push("Serve the site")
    settings = ControllerSettings(
        repository=str(made.repository.origin),
        state=made.state,
        listen="127.0.0.1:0",
        database_url=superuser_url,
        poll_interval_s=0.5,
    )
    async with controller_running(settings) as made.url:
        yield made


@contextlib.asynccontextmanager
async def controller_running(settings: ControllerSettings) -> AsyncIterator[str]:
    """Its URL."""
    stop = asyncio.Event()
    running = asyncio.create_task(bootstrap.run(settings, stop))
    published = settings.state / "controller.url"
    await until(lambda: _true(published.exists() or running.done()))
    assert not running.done(), running.result()
    yield published.read_text().strip()
    stop.set()
    await asyncio.wait_for(running, DEADLINE_S)


async def _true(value: bool) -> bool:
    return value


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            await asyncio.sleep(0.05)


class PretendedAgent:
    """Enrols, follows its plan over the real stream, and reports every new instance as ready, or as `status` says."""

    def __init__(self, control_plane: ControlPlane, status: str = "ready") -> None:
        self._control_plane = control_plane
        self._counter = 0
        self._told: dict[str, str] = {}
        self.status = status
        self.plans: list[NodePlan] = []

    async def run(self, stop: asyncio.Event) -> None:
        await self._control_plane.post_json(
            "/v1/nodes/node-a/enrol",
            to_json(Enrolment("node-a", "fd00:0:0:1::/64", 4 << 30, 2.0, 10 << 30, "age1x", "tcg", "0.1.0")),
        )
        await self._control_plane.post_json("/v1/nodes/node-a/heartbeat", {})
        path = "/v1/nodes/node-a/plan"
        await follow.follow_plan(self._control_plane, path, lambda doc: from_json(NodePlan, doc), self.on_plan, stop)

    async def on_plan(self, plan: NodePlan) -> None:
        assert not self.plans or plan.generation >= self.plans[-1].generation
        self.plans.append(plan)
        for planned in plan.instances:
            status = self.status if planned.desired == "running" else "stopped"
            if self._told.get(planned.instance_id) != status:
                self._told[planned.instance_id] = status
                await self._report(planned.instance_id, planned.workload.address, status)

    async def _report(self, instance_id: str, address: str, status: Any) -> None:
        self._counter += 1
        code, detail = ("image_not_found", "no such digest") if status == "failed" else ("", "")
        report = InstanceReport(
            instance_id, 1, self._counter, status, "2026-01-01T00:00:00Z", "boot-1", code, detail,
            endpoints=(Endpoint(8080, address, 8080),),
        )  # fmt: skip
        answer = await self._control_plane.post_json(
            "/v1/nodes/node-a/reports", to_json(NodeReport("node-a", (report,)))
        )
        assert answer == {"counter": self._counter, "refused": []}


async def test_from_a_push_to_a_ready_instance_and_back_to_the_line(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    async def told(*argv: str) -> str:
        capsys.readouterr()
        assert await fleet.run(*argv) == 0
        return capsys.readouterr().out

    async def verdict(name: str) -> str:
        capsys.readouterr()
        code = await fleet.run("why", name, "--output", "json")
        return str(json.loads(capsys.readouterr().out)["verdict"]) if code == 0 else ""

    async def is_waiting() -> bool:
        return await verdict("site") == "waiting"

    async def is_converged() -> bool:
        return await verdict("site") == "converged"

    await until(is_waiting)
    assert "no_nodes_active" in await told("why", "app/site")
    stop = asyncio.Event()
    async with fleet.machine("node", "node-a") as control_plane:
        agent = PretendedAgent(control_plane)
        running = asyncio.create_task(agent.run(stop))
        await until(is_converged)
        page = await told("why", "app/site")
        assert "at site.yaml:" in page
        assert "by Dana Developer <dana@example.test>" in page
        assert "is ready" in page
        assert "all is as Git says" in await told("status")
        instance_id = agent.plans[-1].instances[0].instance_id
        assert await verdict(instance_id[:-2]) == "converged"

        agent.status = "failed"
        head = fleet.repository
        head.replace("site.yaml", "1" * 64, "2" * 64)
        commit = head.push("A better site")
        await until(lambda: _is(verdict("site"), "failing"))
        page = await told("why", "site")
        assert "image_not_found" in page
        assert "A better site" in page
        assert "the registry does not have this digest" in page
        assert "instance.allocated" in await told("events", "--commit", commit[:8])

        head.write("site.yaml", APP.replace("replicas", "replicsa"))
        slip = head.push("Scale, with a slip")
        await until(lambda: _contains(told("why", "site"), "held_back"))
        assert "site.yaml:" in await told("why", "site")
        assert "replicas" in await told("why", slip[:8])
        assert "was applied except app prod/app/site: site.yaml:" in await told("status")
        head.remove("site.yaml")
        head.push("Take it down")
        await until(lambda: _is(verdict("site"), "removed"))
        page = await told("why", "app/site")
        assert "was removed by Dana Developer" in page
        await until(lambda: _is(verdict(instance_id), "removed"))
        stop.set()
        await running


async def _is(found: Awaitable[str], wanted: str) -> bool:
    return await found == wanted


async def _contains(found: Awaitable[str], wanted: str) -> bool:
    return wanted in await found


@pytest.mark.parametrize("fleet", [(ENVIRONMENT.replace("description", "descr"), APP)], indirect=True)
async def test_a_refused_first_commit_is_what_why_says(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    commit = fleet.repository.push("Again")

    async def refused() -> bool:
        capsys.readouterr()
        assert await fleet.run("why", "site") == 4
        return commit[:12] in capsys.readouterr().err

    await until(refused)


@pytest.mark.parametrize("fleet", [(ENVIRONMENT, APP.replace("replicas", "replicsa"))], indirect=True)
async def test_why_knows_an_app_that_never_began_because_it_is_held_back(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    async def told() -> bool:
        capsys.readouterr()
        code = await fleet.run("why", "site")
        return code == 0 and "site.yaml:11:7" in capsys.readouterr().out

    await until(told)


async def test_a_plan_against_the_live_fleet_comes_true(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """Planned while it is on no branch, as of a pull request; then pushed."""

    async def document(*argv: str) -> Any:
        capsys.readouterr()
        code = await fleet.run(*argv, "--output", "json")
        return json.loads(capsys.readouterr().out) if code in (0, 1) else {}

    async def plan(*more: str) -> Any:
        return await document("plan", "origin/main..HEAD", "--repo", str(fleet.repository.work), *more)

    stop = asyncio.Event()
    async with fleet.machine("node", "node-a") as control_plane:
        agent = PretendedAgent(control_plane)
        running = asyncio.create_task(agent.run(stop))
        await until(lambda: _verdict(document("why", "site"), "converged"))
        (old,) = (each.instance_id for each in agent.plans[-1].instances)
        fleet.repository.replace("site.yaml", "1" * 64, "2" * 64)
        fleet.repository._git("commit", "-q", "-am", "A better site")
        assert (
            await fleet.run("plan", "origin/main..HEAD", "--repo", str(fleet.repository.work), "--against", "live") == 4
        )
        clone = str(fleet.state / "git" / "main.git")
        fleet.repository._git(f"--git-dir={clone}", "fetch", "-q", str(fleet.repository.work), "main")
        told = await plan("--against", "live")
        assert told["fleet"] == "live"
        assert [(each["act"], each["instance"], each["at"]) for each in told["roll_outs"][0]["steps"]] == [
            ("start", "new-1", "node-a"),
            ("drain", old, "node-a"),
        ]
        assert told["summary"] == "1 changed, 1 instance start, 1 stop"
        offline = await plan("--nodes", "1")
        assert offline["summary"] == told["summary"]
        capsys.readouterr()
        where = ("--repo", str(fleet.repository.work), "--against", "live")
        assert await fleet.run("plan", "origin/main..HEAD", *where, "--output", "markdown") == 0
        assert "`prod/app/site web`" in capsys.readouterr().out
        fleet.repository._git("push", "-q", "origin", "main")
        await until(lambda: _true([each.instance_id for each in agent.plans[-1].instances] not in ([old], [])))
        await until(lambda: _true(old not in {each.instance_id for each in agent.plans[-1].instances}))
        assert len(agent.plans[-1].instances) == told["environments"][0]["instances_after"] == 1
        stop.set()
        await running


async def _verdict(found: Awaitable[Any], wanted: str) -> bool:
    return bool((await found).get("verdict") == wanted)
