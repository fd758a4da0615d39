"""A whole node in memory around the real actors, ledger, reports and volumes: only the drivers are fakes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agent.booting import Surroundings
from agent.core.model import InstanceRecord
from agent.drivers.fake import FakeMachines, FakeWorld
from agent.ledger import LedgerFiles
from agent.loop import Node
from agent.ports import Disk, Host, Link, Reach, RootImage
from agent.report import Reporter
from agent.starting import Preparation
from agent.volumes import VolumeKeeper
from kit.clock import SystemClock
from kit.wire import Endpoint, InstanceReport, NodePlan, PlannedInstance, PlannedVolume, SecretRef, Workload

LINK = Link("02:00:00:00:00:01", "fd00::5/64", "fd00::1", (Endpoint(8080, "fd00::5", 8080),))


def workload(**changes: Any) -> Workload:
    given: dict[str, Any] = {
        "app": "o/p/e/a/app/a",
        "env": "e",
        "process": "web",
        "release_id": "r-1",
        "image": "registry.test/site@sha256:" + "ab" * 32,
        "memory_bytes": 64 << 20,
        "cpu": 0.5,
        "disk_bytes": 32 << 20,
        "address": "fd00::5",
    }
    return Workload(**{**given, **changes})


def instance(
    instance_id: str = "i-1",
    desired: Literal["running", "draining", "stopped"] = "running",
    epoch: int = 1,
    grace_s: float = 0.1,
    **changes: Any,
) -> PlannedInstance:
    return PlannedInstance(instance_id, epoch, desired, grace_s, workload(**changes))


def plan(
    generation: int, *instances: PlannedInstance, volumes: tuple[PlannedVolume, ...] = (), log_id: str = "log-1"
) -> NodePlan:
    return NodePlan("node-a", log_id, generation, instances, volumes)


def record(planned: PlannedInstance | None = None, **changes: Any) -> InstanceRecord:
    given: dict[str, Any] = {"log_id": "log-1", "generation": 1, "host_boot_id": "boot-1"}
    return InstanceRecord(planned or instance(), **{**given, **changes})


@dataclass
class FakeImages:
    errors: dict[str, Exception] = field(default_factory=dict)
    gate: asyncio.Event | None = None

    async def ensure(self, image: str) -> RootImage:
        if self.gate is not None:
            await self.gate.wait()
        if image in self.errors:
            raise self.errors[image]
        return RootImage(Path("/root.squashfs"), ("/bin/site",))


@dataclass
class FakeNetwork:
    reach: Reach = "direct"
    made: set[str] = field(default_factory=set)

    async def prepare(self) -> None: ...

    async def ensure(self, instance_id: str, workload: Workload) -> Link:
        self.made.add(instance_id)
        return LINK

    async def observe(self) -> tuple[str, ...]:
        return tuple(sorted(self.made))

    async def remove(self, instance_id: str) -> None:
        self.made.discard(instance_id)

    async def tear_down(self) -> None:
        self.made.clear()


@dataclass
class FakeVolumes:
    """`deleted`: every volume that was ever deleted."""

    there: set[str] = field(default_factory=set)
    deleted: list[str] = field(default_factory=list)
    layers: set[str] = field(default_factory=set)

    async def observe(self, volume_id: str) -> Literal["absent", "available", "in_use"]:
        return "available" if volume_id in self.there else "absent"

    async def ensure(self, volume: PlannedVolume) -> None:
        self.there.add(volume.volume_id)

    async def attach(self, volume_id: str, serial: str, *, read_only: bool) -> Disk:
        assert volume_id in self.there
        return Disk(serial, Path(f"/{volume_id}"), read_only)

    async def remove(self, volume_id: str) -> None:
        self.there.discard(volume_id)
        self.deleted.append(volume_id)

    async def ensure_layer(self, instance_id: str, size_bytes: int) -> Disk:
        self.layers.add(instance_id)
        return Disk("layer", Path("/layer"))

    async def remove_layer(self, instance_id: str) -> None:
        self.layers.discard(instance_id)


@dataclass
class FakeSecrets:
    error: Exception | None = None

    async def ensure(self, instance_id: str, wanted: SecretRef) -> bytes:
        if self.error is not None:
            raise self.error
        return b"A=1\n"

    async def remove(self, instance_id: str) -> None: ...


@dataclass
class FakeCgroups:
    oom_kills: int = 0
    made: set[str] = field(default_factory=set)

    async def ensure(self, instance_id: str, memory_bytes: int, cpu: float) -> tuple[Path, ...]:
        self.made.add(instance_id)
        return ()

    async def observe(self, instance_id: str) -> int:
        return self.oom_kills

    async def remove(self, instance_id: str) -> None:
        self.made.discard(instance_id)

    async def tear_down(self) -> None: ...


@dataclass
class World:
    """The host: what survives the agent. `told`: (instance, status, reason) of all delivered or waiting reports."""

    machines: FakeWorld = field(default_factory=FakeWorld)
    images: FakeImages = field(default_factory=FakeImages)
    network: FakeNetwork = field(default_factory=FakeNetwork)
    volumes: FakeVolumes = field(default_factory=FakeVolumes)
    secrets: FakeSecrets = field(default_factory=FakeSecrets)
    cgroups: FakeCgroups = field(default_factory=FakeCgroups)

    def live(self) -> set[str]:
        return {key for key, machine in self.machines.machines.items() if machine.alive}


class Agent:
    """One life of an agent over a world and a state folder. `end` is a kill: nothing is said good-bye to."""

    def __init__(self, world: World, state: Path, *, boots_max: int = 2, seed: int = 1) -> None:
        self.world = world
        self._ended = False
        rng = random.Random(seed)
        self.ledger = LedgerFiles(state, "boot-1")
        self.reporter = Reporter(state, "node-a", self._post, rng)
        clock = SystemClock()
        machines = FakeMachines(world.machines, lambda instance_id: self.node.wake(instance_id))
        host = Host(machines, world.images, world.network, world.volumes, world.secrets, world.cgroups)
        volumes = VolumeKeeper(world.volumes, self.ledger, self.reporter, clock, rng)
        preparation = Preparation(host, volumes)
        boots = asyncio.Semaphore(boots_max)
        self._machines = machines
        self.node = Node(
            "node-a", Surroundings(host, self.ledger, self.reporter, volumes, preparation, boots, clock, rng)
        )
        self._task = asyncio.create_task(self.node.run())

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if not self._ended:
            self._ended = True
            await self._machines.close()

    async def _post(self, document: Any) -> Any:
        raise AssertionError("these tests read the queue")

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [
            (report.instance_id, report.status, report.reason_code)
            for report in self.reporter.waiting
            if isinstance(report, InstanceReport)
        ]

    def statuses(self, instance_id: str = "i-1") -> list[str]:
        return [status for name, status, _ in self.told if name == instance_id]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"did not come to be; told: {self.told}; records: {self.ledger.instances}") from None
