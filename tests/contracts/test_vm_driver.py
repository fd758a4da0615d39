"""What every machine driver promises. The fake in memory and the real QEMU pass the same tests.

The real one boots a guest under software emulation, so its tests share one machine where the order allows it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.boot_archive import boot_archive
from agent.core.model import Machine
from agent.drivers.fake import FakeMachines, FakeWorld
from agent.drivers.network import UserNetwork
from agent.drivers.vm import QemuMachines
from agent.drivers.volume import Volumes
from agent.ports import Disk, Link, MachineDriver, MachineSpec, RootImage
from kit.errors import Refusal
from kit.wire import Endpoint, Port, Workload
from tests.integration.agent import host

ID = "i-contract"
WORKLOAD = Workload(
    app="o/p/e/a/app/a",
    env="e",
    process="web",
    release_id="r-1",
    image=host.IMAGE,
    memory_bytes=128 << 20,
    cpu=1.0,
    disk_bytes=32 << 20,
    address="fd00:7475:a::5",
    ports=(Port("http", 8080),),
)


@dataclass
class Rig:
    """A driver that can be made anew (as a restarted agent does) over machines that stay."""

    make: Callable[[Callable[[str], None]], MachineDriver]
    spec: MachineSpec
    kill_outside: Callable[[], None]
    answers: Callable[[], bool]
    heard: list[str] = field(default_factory=list)

    def driver(self) -> MachineDriver:
        return self.make(self.heard.append)


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.guest)])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = fake_rig() if request.param == "fake" else await qemu_rig(tmp_path)
    yield made
    driver = made.driver()
    await driver.kill(ID)
    await driver.remove(ID)
    await driver.close()
    assert host.machines_of(tmp_path) == []
    shutil.rmtree(run_folder(), ignore_errors=True)


def fake_rig() -> Rig:
    world = FakeWorld()
    link = Link("02:00:00:00:00:01", "fd00::5/64", "fd00::1", (Endpoint(8080, "fd00::5", 8080),))
    return Rig(
        make=lambda on_change: FakeMachines(world, on_change),
        spec=MachineSpec(ID, 1, 128 << 20, 1, (), link, b"archive"),
        kill_outside=lambda: world.die(ID),
        answers=lambda: world.machines[ID].alive,
    )


async def qemu_rig(folder: Path) -> Rig:
    guest = host.guest_files()
    rootfs = host.make_rootfs(folder)
    image = RootImage(rootfs, ("/bin/httpd", "-f", "-p", "[::]:8080", "-h", "/www"), {"PATH": "/bin"})
    network = UserNetwork(folder, "fd00:7475:a::/64", "127.0.0.1")
    await network.prepare()
    link = await network.ensure(ID, WORKLOAD)
    layer = await Volumes(folder).ensure_layer(ID, WORKLOAD.disk_bytes)
    archive = boot_archive(ID, WORKLOAD, image, link, None, int(time.time()))
    disks = (Disk("root", rootfs, read_only=True), layer)
    spec = MachineSpec(ID, 1, WORKLOAD.memory_bytes, 1, disks, link, archive)
    run = run_folder()
    port = link.endpoints[0].reach_port
    return Rig(
        make=lambda on_change: QemuMachines(folder, run, guest, "tcg", on_change),
        spec=spec,
        kill_outside=lambda: kill_machines(folder),
        answers=lambda: http_answers(port),
    )


def run_folder() -> Path:
    """A short one: socket paths have a bound."""
    return Path(f"/tmp/tuc{os.getpid()}")


def kill_machines(folder: Path) -> None:
    for pid in host.machines_of(folder):
        os.kill(pid, signal.SIGKILL)


def http_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(4) == b"HTTP"
    except OSError:
        return False


async def until(look: Callable[[], Any], good: Callable[[Any], bool], timeout_s: float = 60.0) -> Any:
    """What `look` gives as soon as it is `good`."""
    async with asyncio.timeout(timeout_s):
        while True:
            seen = look()
            seen = await seen if asyncio.iscoroutine(seen) else seen
            if good(seen):
                return seen
            await asyncio.sleep(0.05)


def started(machine: Machine) -> bool:
    return machine.presence == "alive" and machine.started


def absent(machine: Machine) -> bool:
    return machine.presence == "absent"


async def test_a_machine_starts_is_adopted_and_stops(rig: Rig) -> None:
    first = rig.driver()
    assert (await first.observe(ID)).presence == "absent"
    assert (await first.ensure(rig.spec)).presence == "alive"
    machine = await until(lambda: first.observe(ID), started)
    await until(rig.answers, bool)
    await until(lambda: rig.heard, bool, 5)  # a start is a change
    again = await first.ensure(rig.spec)
    assert again.boot_id == machine.boot_id, "ensure is idempotent: no second machine"
    with pytest.raises(Refusal):
        await first.remove(ID)

    # The agent ends. Another one finds the machine, listens to it, and does not disturb it.
    await first.close()
    second = rig.driver()
    assert await second.known() == (ID,)
    assert (await second.observe(ID)).boot_id == machine.boot_id
    await second.attach(ID)
    adopted = await until(lambda: second.observe(ID), started)
    assert adopted.boot_id == machine.boot_id
    assert rig.answers()

    rig.heard.clear()
    await second.ask_to_stop(ID, 5)
    ended = await until(lambda: second.observe(ID), absent, 20)
    assert ended.last_words is not None
    assert ended.last_words.exit_code == 143
    await until(lambda: rig.heard, bool, 5)  # an end is a change
    await second.remove(ID)
    assert await second.known() == ()
    await second.close()


async def test_a_machine_that_is_killed_is_seen_dead(rig: Rig) -> None:
    driver = rig.driver()
    first = await driver.ensure(rig.spec)
    rig.kill_outside()
    dead = await until(lambda: driver.observe(ID), absent, 10)
    assert dead.last_words is not None
    assert dead.last_words.reason_code == "vm_died"
    await driver.kill(ID)  # killing the dead is no error
    second = await driver.ensure(rig.spec)
    assert second.presence == "alive"
    assert second.boot_id != first.boot_id
    await driver.kill(ID)
    assert (await driver.observe(ID)).presence == "absent"
    await driver.close()


async def test_nothing_is_known_of_a_machine_that_never_was(rig: Rig) -> None:
    driver = rig.driver()
    assert await driver.observe("i-other") == Machine("absent")
    assert (await driver.attach("i-other")).presence == "absent"
    await driver.kill("i-other")
    await driver.remove("i-other")
    await driver.close()


@pytest.mark.guest
async def test_a_machine_is_found_without_what_was_written_of_it(tmp_path: Path) -> None:
    """The agent died before it wrote the process id down, or the file is torn: still no second machine is started."""
    made = await qemu_rig(tmp_path)
    driver = made.driver()
    try:
        first = await driver.ensure(made.spec)
        [file] = (tmp_path / "vm").glob("*.json")
        for damage in (file.unlink, lambda: file.write_text("{"), lambda: None):
            damage()
            await driver.close()
            driver = made.driver()
            assert (await driver.observe(ID)) == Machine("alive", boot_id=first.boot_id, epoch=1)
            assert (await driver.ensure(made.spec)).boot_id == first.boot_id
            assert len(host.machines_of(tmp_path)) == 1
    finally:
        await driver.kill(ID)
        await driver.remove(ID)
        await driver.close()
        shutil.rmtree(run_folder(), ignore_errors=True)
