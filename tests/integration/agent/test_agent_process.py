"""The agent as a process, in a network namespace, with a bridge and a real machine; the controller is a stand-in."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kit.canonical import digest
from kit.sealed_file import Binding, seal_file
from kit.wire import Health, Mount, NodePlan, PlannedInstance, PlannedVolume, Port, SecretRef, Workload
from reconciler.core.secret_file import secret_file
from tests.integration.agent import host
from tests.integration.agent.controller import Controller

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and taps need root"),
]

SUBNET = "fd00:7475:a::/64"
ADDRESS = "fd00:7475:a::10"
VOLUME = "acme/shop/prod/site/volume/data"
SECRET = secret_file(
    {"GREETING": b"canary-7b1f", "PEM": b"two\nlines\n", "A": "é=".encode(), "BIN": b"\xff\x00", "E": b""}
)


def workload() -> Workload:
    return Workload(
        app="acme/shop/prod/site/app/site",
        env="prod",
        process="web",
        release_id="r-1",
        image=host.IMAGE,
        memory_bytes=128 << 20,
        cpu=1.0,
        disk_bytes=64 << 20,
        address=ADDRESS,
        ports=(Port("http", 8080),),
        health=Health("http", 8080, interval_s=0.5, grace_s=20.0),
        mounts=(Mount(VOLUME, "/data"),),
        secret=SecretRef("v-1"),
    )


def plan(*instances: PlannedInstance, volume: str = "present") -> NodePlan:
    volumes = (PlannedVolume(VOLUME, "data", 32 << 20, volume),)  # type: ignore[arg-type]  # the tests' own words
    return NodePlan("node-a", "log-1", 1, instances, volumes)


class Agent:
    """`trueup-agent` in the namespace. Its log goes to a file that a failed test can show."""

    def __init__(self, namespace: str, state: Path, url: str) -> None:
        self._namespace, self._state, self._url = namespace, state, url
        self._process: asyncio.subprocess.Process | None = None

    def _command(self, *arguments: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self._namespace}", sys.executable, "-m", "agent", *arguments]

    async def start(self) -> None:
        guest = host.REPOSITORY / ".cache" / "guest"
        arguments = ["--node-id", "node-a", "--controller", self._url, "--token", "t", "--subnet", SUBNET]
        arguments += ["--state", str(self._state), "--accelerator", "tcg", "--guest", str(guest)]
        arguments += ["--network", "bridge", "--memory", "1Gi"]
        log = (self._state.parent / "agent.log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            *self._command(*arguments), cwd=host.REPOSITORY, stdout=log, stderr=log, start_new_session=True
        )
        log.close()

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        os.killpg(self._process.pid, number)  # as a terminal or a service manager does it: the whole group
        return await asyncio.wait_for(self._process.wait(), 15)

    async def stop_all(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._command("stop-all", "--state", str(self._state)),
            cwd=host.REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 40)
        assert process.returncode == 0, output.decode()


class Scene:
    def __init__(self, namespace: str, state: Path, controller: Controller, agent: Agent) -> None:
        self.namespace, self.state, self.controller, self.agent = namespace, state, controller, agent

    def fetch(self, path: str) -> str:
        """One page from the guest, from inside the node's namespace."""
        with host.inside(self.namespace):
            connection = socket.create_connection((ADDRESS, 8080), timeout=5)
        with connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b""
            while part := connection.recv(4096):
                answer += part
        return answer.decode()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    host.guest_files()
    state = tmp_path / "state"
    host.put_image(state, host.make_rootfs(tmp_path))
    controller = Controller(plan())
    with host.network_namespace(f"tu{os.getpid()}") as namespace:
        with host.inside(namespace):
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        url = f"http://[::1]:{listener.getsockname()[1]}"
        await controller.start(listener)
        agent = Agent(namespace, state, url)
        try:
            yield Scene(namespace, state, controller, agent)
        finally:
            if agent._process is not None and agent._process.returncode is None:
                await agent.end(signal.SIGKILL)
            await agent.stop_all()
            await controller.stop()
            assert host.machines_of(state) == []
            assert host.cgroups_of(digest(str(state), length=8)) == []
            assert links(namespace) == ["lo"]
            assert not (Path("/run/trueup") / digest(str(state), length=8)).exists()


def links(namespace: str) -> list[str]:
    with host.inside(namespace):
        return [name for _, name in socket.if_nameindex()]


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.1)


async def test_a_machine_outlives_its_agent_and_ends_with_its_plan(scene: Scene) -> None:
    controller, agent = scene.controller, scene.agent
    await agent.start()
    await until(lambda: bool(controller.enrolments))
    binding = Binding("node-a", "i-1", "acme/shop/prod/site/app/site", "v-1")
    sealed = base64.b64encode(seal_file(SECRET, controller.enrolments[0]["seal_recipient"], binding)).decode()
    controller.sealed["i-1"] = {"version_id": "v-1", "sealed": sealed, "app": binding.app}
    instance = PlannedInstance("i-1", 1, "running", 1.0, workload())
    await controller.set_plan(plan(instance))

    ready = await controller.wait_for_status("i-1", "ready")
    assert ready["endpoints"] == [{"port": 8080, "address": ADDRESS, "reach_port": 8080}]
    assert "hello from a guest" in scene.fetch("/index.html")
    shown = scene.fetch("/secret.txt").partition("\r\n\r\n")[2]
    assert re.match(r"-r--------\s+1 0\s+0\s", shown), "0400, of the user that the process has"
    assert "tmpfs /run/secrets tmpfs " in shown
    assert shown.endswith("\n.\n..\nplatform.env\n" + SECRET.decode()), "the very file, and nothing else beside it"
    assert not secret_on_disk(scene.state)
    [pid] = host.machines_of(scene.state)

    # The agent ends; the machine does not notice. A new agent adopts it, and says nothing new about it.
    told = len(controller.reports)
    assert await agent.end(signal.SIGTERM) == 0
    assert "hello" in scene.fetch("/index.html")
    await agent.start()
    await until(lambda: len(controller.enrolments) == 2)
    await until(lambda: len(controller.heartbeats) >= 2)
    assert host.machines_of(scene.state) == [pid]
    assert controller.reports[told:] == []

    # The agent is killed and the controller is away; the machine dies; the next agent starts it again, secret and all.
    await agent.end(signal.SIGKILL)
    controller_port = controller  # the same object goes on listening; only its secret is gone
    controller_port.sealed.clear()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: host.machines_of(scene.state) == [])
    await agent.start()
    failed = await controller.wait_for_status("i-1", "failed")
    assert failed["reason_code"] == "vm_died"
    ready = await controller.wait_for_status("i-1", "ready", nth=2)
    assert ready["restarts"] == 1
    assert "canary-7b1f" in scene.fetch("/secret.txt")

    # Drained and stopped; then nothing of it is left, but its volume is, until the tombstone.
    await controller.set_plan(plan(replace(instance, desired="draining")))
    await controller.wait_for_status("i-1", "draining")
    await controller.wait_for_status("i-1", "stopped")
    assert host.machines_of(scene.state) == []
    assert volume_files(scene.state)
    await controller.set_plan(plan())
    await until(lambda: not list((scene.state / "ledger" / "instances").glob("*.json")))
    assert volume_files(scene.state)
    await controller.set_plan(plan(volume="deleted"))
    await until(lambda: not volume_files(scene.state))


def volume_files(state: Path) -> list[Path]:
    return list((state / "volumes").glob("*/data.ext4"))


def secret_on_disk(state: Path) -> bool:
    """Whether the plain secret is in any file of the state folder."""
    needle = b"canary-7b1f"
    return any(needle in path.read_bytes() for path in state.rglob("*") if path.is_file())
