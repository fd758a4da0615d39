"""What the agent needs from its host, as Protocols. Implemented in `agent.drivers`, used by `agent.actors`.

Every driver has observe, ensure and remove in its own words; each may be repeated at any time and each tells what it
did not do by raising `Refusal` (a retry does not help) or `Transient` with a code of `kit.wire.REASON_CODES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from agent.core.model import Machine
from kit.wire import Endpoint, PlannedVolume, Port, SecretRef, Workload


@dataclass(frozen=True, slots=True)
class RootImage:
    """An image that is on this node. `rootfs` is a squashfs file, shared by all its instances. `argv` is entry point
    and command, `user` is uid:gid."""

    rootfs: Path
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    stop_signal: str = "SIGTERM"


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """The kernel and the initramfs that every machine boots."""

    kernel: Path
    initramfs: Path


@dataclass(frozen=True, slots=True)
class Disk:
    """A block device of a machine. `lock_fd`, if there is one, is inherited by the machine's process: the lock is held
    as long as that lives, whoever else dies."""

    serial: str
    path: Path
    read_only: bool = False
    lock_fd: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A machine's network. `tap` is empty for qemu's user network, whose `forwards` are then its ways in; it forwards
    over IPv4 only, hence `address4`."""

    mac: str
    address: str  # with prefix, as the guest sets it
    gateway: str
    endpoints: tuple[Endpoint, ...]
    tap: str = ""
    dns: str = ""
    address4: str = ""
    gateway4: str = ""
    forwards: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Everything that a machine is started from. `boot_archive` is secret: it is kept in memory only."""

    instance_id: str
    epoch: int
    memory_bytes: int
    vcpus: int
    disks: tuple[Disk, ...]
    link: Link
    boot_archive: bytes = field(repr=False)
    cgroup_files: tuple[Path, ...] = ()


Reach = Literal["direct", "forwarded"]
"""Through a forwarded port a connection opens even if nothing listens in the guest."""


class MachineDriver(Protocol):
    """One machine per instance. `on_change` of the constructor is called with the instance's id whenever `observe`
    would say something new."""

    async def observe(self, instance_id: str) -> Machine: ...

    async def ensure(self, spec: MachineSpec) -> Machine:
        """Starts the machine, or attaches to the one that lives and hands it its archive if it asks."""
        ...

    async def attach(self, instance_id: str, boot_archive: bytes | None = None) -> Machine:
        """Listens to a machine that lives, undisturbed. The archive is for a guest that still waits for one."""
        ...

    async def ask_to_stop(self, instance_id: str, grace_s: int) -> None:
        """Tells the guest to stop its process within `grace_s`. Returns at once."""
        ...

    async def kill(self, instance_id: str) -> None:
        """Returns when the machine's process is gone."""
        ...

    async def remove(self, instance_id: str) -> None:
        """Removes what a dead machine left behind. Refuses while it lives."""
        ...

    async def known(self) -> tuple[str, ...]:
        """Instances of which anything is on disk."""
        ...

    async def close(self) -> None:
        """Lets go of all machines and leaves them running."""
        ...


class ImageDriver(Protocol):
    async def ensure(self, image: str) -> RootImage:
        """Brings the image to this node; at once if it is here."""
        ...


class NetworkDriver(Protocol):
    reach: Reach

    async def prepare(self) -> None:
        """What all machines share. Repeated at each start of the agent."""
        ...

    async def ensure(self, instance_id: str, workload: Workload) -> Link: ...

    async def observe(self) -> tuple[str, ...]:
        """Names of what exists for machines now."""
        ...

    async def remove(self, instance_id: str) -> None: ...

    async def tear_down(self) -> None:
        """Removes everything, shared parts too. Only when no machine lives."""
        ...


class VolumeDriver(Protocol):
    async def observe(self, volume_id: str) -> Literal["absent", "available", "in_use"]: ...

    async def ensure(self, volume: PlannedVolume) -> None: ...

    async def attach(self, volume_id: str, serial: str, *, read_only: bool) -> Disk:
        """The disk, with the one writer's lock. A `Transient` while another machine holds it."""
        ...

    async def remove(self, volume_id: str) -> None:
        """Deletes the data. Refuses while a machine holds it."""
        ...

    async def ensure_layer(self, instance_id: str, size_bytes: int) -> Disk:
        """A fresh, empty, private layer."""
        ...

    async def remove_layer(self, instance_id: str) -> None: ...


class SecretDriver(Protocol):
    async def ensure(self, instance_id: str, wanted: SecretRef) -> bytes:
        """The plain file, in memory only."""
        ...

    async def remove(self, instance_id: str) -> None: ...


class CgroupDriver(Protocol):
    async def ensure(self, instance_id: str, memory_bytes: int, cpu: float) -> tuple[Path, ...]:
        """The files that a process writes its id into to be bounded. None where there are no cgroups."""
        ...

    async def observe(self, instance_id: str) -> int:
        """How many of its processes the kernel killed for lack of memory."""
        ...

    async def remove(self, instance_id: str) -> None: ...

    async def tear_down(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Host:
    """All drivers of a node."""

    machines: MachineDriver
    images: ImageDriver
    network: NetworkDriver
    volumes: VolumeDriver
    secrets: SecretDriver
    cgroups: CgroupDriver


OnChange = Callable[[str], None]


def reach_of(link: Link, port: int) -> tuple[str, int]:
    """Where the host reaches a guest's port."""
    for endpoint in link.endpoints:
        if endpoint.port == port:
            return endpoint.address, endpoint.reach_port
    return link.address.split("/")[0], port


def ports_of(workload: Workload) -> tuple[Port, ...]:
    """The workload's ports, and the port of its health check if that is another."""
    check = workload.health
    if check is None or any(port.port == check.port for port in workload.ports):
        return workload.ports
    return (*workload.ports, Port("health", check.port))
