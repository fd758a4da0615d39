"""Where the agent's real parts are put together. Called by `agent.__main__`.

The guest's files are built or found, the accelerator and the network are chosen, the drivers made; then the node's
loop, reports, heartbeats and plans run side by side until the program is told to stop. Machines live on.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote

from agent import loop
from agent.accelerator import remembered_probe
from agent.booting import Surroundings
from agent.drivers.cgroup import Cgroups
from agent.drivers.image import ImageStore
from agent.drivers.network import BridgeNetwork, UserNetwork
from agent.drivers.secret import Secrets, node_identity
from agent.drivers.vm import QemuMachines
from agent.drivers.vm.driver import QEMU
from agent.drivers.vm.process import host_boot_id
from agent.drivers.volume import Volumes
from agent.guest.build import build
from agent.ledger import LedgerFiles
from agent.ports import GuestFiles, Host, NetworkDriver
from agent.report import Reporter
from agent.settings import Settings
from agent.starting import Preparation
from agent.state_folder import NodeFile, node_key, only_one, write_node_file
from agent.volumes import VolumeKeeper
from kit import logs
from kit.clock import SystemClock
from kit.codec import to_json
from kit.control_plane import ControlPlane
from kit.errors import TrueupError
from kit.follow import follow_plan
from kit.joining import joined
from kit.machine_identity import MachineIdentity
from kit.wire import MACHINE_OVERHEAD_BYTES, Enrolment

_log = logs.get("agent")


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """The agent, until `stop` is set. Machines live on."""
    settings.require()
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with only_one(settings.state, 0.0):
        guest = await asyncio.to_thread(_guest_files, settings)
        accelerator = await _accelerator(settings, guest)
        identity = MachineIdentity(settings.state / "identity", "node", settings.node_id)
        async with joined(identity, settings.controller, settings.join_token, settings.token) as control_plane:
            async with _node(settings, guest, accelerator, control_plane) as (node, everything):
                await _run_loops(settings, stop, control_plane, node, everything, accelerator)
    _log.info("agent ends; its machines go on", node_id=settings.node_id)


async def _run_loops(
    settings: Settings,
    stop: asyncio.Event,
    control_plane: ControlPlane,
    node: loop.Node,
    everything: Surroundings,
    accelerator: str,
) -> None:
    base = f"/v1/nodes/{quote(settings.node_id, safe='')}"
    recipient = str(node_identity(settings.state / "node.agekey").to_public())
    enrolment = to_json(_enrolment(settings, recipient, accelerator))
    rng = everything.rng

    async def talk() -> None:
        async def enrol() -> None:
            await loop.enrol(lambda: control_plane.post_json(f"{base}/enrol", enrolment), rng)

        await enrol()
        async with asyncio.TaskGroup() as group:
            pulse = functools.partial(control_plane.post_json, f"{base}/heartbeat", {})
            group.create_task(loop.beat(pulse, enrol))
            group.create_task(everything.reporter.run())
            group.create_task(follow_plan(control_plane, f"{base}/plan", loop.decode_plan, node.apply, stop))

    tasks = [asyncio.create_task(each) for each in (node.run(), talk(), stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _node(
    settings: Settings, guest: GuestFiles, accelerator: str, control_plane: ControlPlane
) -> AsyncIterator[tuple[loop.Node, Surroundings]]:
    state, run_folder = settings.state.resolve(), settings.run_folder()
    rng, clock = random.Random(), SystemClock()  # noqa: S311  # jitter
    network = await _network(settings, state)
    mode = "bridge" if network.reach == "direct" else "user"
    write_node_file(state, NodeFile(settings.node_id, settings.subnet, mode, str(run_folder)))
    ledger = LedgerFiles(state, host_boot_id())
    reports = f"/v1/nodes/{quote(settings.node_id, safe='')}/reports"
    reporter = Reporter(
        state,
        settings.node_id,
        lambda document: control_plane.post_json(reports, document),
        rng,
        first_counter=int(time.time()),
    )
    images = ImageStore(state, insecure_registries=settings.insecure_registries, authfile=settings.registry_auth)
    machines = QemuMachines(state, run_folder, guest, accelerator, lambda instance_id: node.wake(instance_id))
    identity = node_identity(state / "node.agekey")
    host = Host(
        machines=machines,
        images=images,
        network=network,
        volumes=Volumes(state),
        secrets=Secrets(control_plane.get_json, settings.node_id, identity, run_folder / "sealed"),
        cgroups=Cgroups(node_key(state), MACHINE_OVERHEAD_BYTES[accelerator]),
    )
    volumes = VolumeKeeper(host.volumes, ledger, reporter, clock, rng)
    boots = asyncio.Semaphore(settings.boots_max)
    everything = Surroundings(host, ledger, reporter, volumes, Preparation(host, volumes), boots, clock, rng)
    node = loop.Node(settings.node_id, everything, images.remove_unused)
    try:
        yield node, everything
    finally:
        await images.close()
        await machines.close()


def _guest_files(settings: Settings) -> GuestFiles:
    folder = settings.guest or settings.state / "guest"
    ready = GuestFiles((folder / "vmlinuz").resolve(), (folder / "initramfs.cpio.gz").resolve())
    return ready if settings.guest and ready.kernel.exists() and ready.initramfs.exists() else build(folder.resolve())


async def _accelerator(settings: Settings, guest: GuestFiles) -> str:
    if settings.accelerator != "auto":
        return settings.accelerator
    found = await remembered_probe(settings.state, QEMU, guest.kernel, guest.initramfs)
    _log.info("accelerator chosen", accelerator=found.name, why=found.reason)
    return found.name


async def _network(settings: Settings, state: Path) -> NetworkDriver:
    user = UserNetwork(state, settings.subnet, settings.address, settings.dns)
    bridge = BridgeNetwork(node_key(state), settings.subnet, settings.dns)
    if settings.network == "user" or (settings.network == "auto" and os.geteuid() != 0):
        await user.prepare()
        return user
    try:
        await bridge.prepare()
    except (TrueupError, OSError) as error:
        if settings.network == "bridge":
            raise
        _log.warning("no bridge can be made; guests are reached through forwarded ports", why=str(error))
        await user.prepare()
        return user
    return bridge


def _enrolment(settings: Settings, recipient: str, accelerator: str) -> Enrolment:
    return Enrolment(
        node_id=settings.node_id,
        subnet=settings.subnet,
        memory_bytes=settings.memory,
        cpu=settings.cpu,
        disk_bytes=settings.disk,
        seal_recipient=recipient,
        accelerator=accelerator,
        agent_version=_version(),
    )


def _version() -> str:
    try:
        return version("trueup")
    except PackageNotFoundError:
        return "unpackaged"
