"""From a planned instance to everything that its machine is started from. Used by `agent.actors`.

Each step is a driver's `ensure`, in an order that fails early and cheaply: image, network, volumes, layer, cgroup, and
the secret last, so that it is in memory for the shortest time. Nothing here starts a machine.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

from agent.boot_archive import boot_archive, volume_serials
from agent.core.model import InstanceRecord
from agent.ports import Disk, Host, Link, MachineSpec
from agent.volumes import VolumeKeeper
from kit.wire import GUEST_KERNEL_BYTES, SecretRef


@dataclass(frozen=True, slots=True)
class Prepared:
    """Close it when the machine has started or will not: the locks of its volumes are then the machine's alone."""

    spec: MachineSpec
    link: Link

    def close(self) -> None:
        for disk in self.spec.disks:
            if disk.lock_fd is not None:
                os.close(disk.lock_fd)


class Preparation:
    def __init__(self, host: Host, volumes: VolumeKeeper) -> None:
        self._host = host
        self._volumes = volumes

    async def prepare(self, record: InstanceRecord) -> Prepared:
        """Raises `Refusal` or `Transient` with a code of REASON_CODES; what was made stays for the next try."""
        workload = record.planned.workload
        instance_id = record.instance_id
        image = await self._host.images.ensure(workload.image)
        link = await self._host.network.ensure(instance_id, workload)
        volumes = await self._attach_volumes(record)
        try:
            layer = await self._host.volumes.ensure_layer(instance_id, workload.disk_bytes)
            groups = await self._host.cgroups.ensure(instance_id, workload.memory_bytes, workload.cpu)
            archive = boot_archive(instance_id, workload, image, link, await self._secret(record), int(time.time()))
        except BaseException:
            _close(volumes)
            raise
        spec = MachineSpec(
            instance_id=instance_id,
            epoch=record.epoch,
            memory_bytes=workload.memory_bytes + GUEST_KERNEL_BYTES,
            vcpus=max(1, math.ceil(workload.cpu)),
            disks=(Disk("root", image.rootfs, read_only=True), layer, *volumes),
            link=link,
            boot_archive=archive,
            cgroup_files=groups,
        )
        return Prepared(spec, link)

    async def archive(self, record: InstanceRecord) -> bytes:
        """The archive alone: for a machine that an earlier agent started and did not hand one to."""
        workload = record.planned.workload
        image = await self._host.images.ensure(workload.image)
        link = await self._host.network.ensure(record.instance_id, workload)
        secret = await self._secret(record)
        return boot_archive(record.instance_id, workload, image, link, secret, int(time.time()))

    async def _attach_volumes(self, record: InstanceRecord) -> list[Disk]:
        disks: list[Disk] = []
        try:
            for serial, mount in volume_serials(record.planned.workload):
                await self._volumes.ensure_planned(mount.volume_id)
                disk = await self._host.volumes.attach(mount.volume_id, serial, read_only=mount.read_only)
                disks.append(disk)
        except BaseException:
            _close(disks)
            raise
        return disks

    async def _secret(self, record: InstanceRecord) -> tuple[SecretRef, bytes] | None:
        wanted = record.planned.workload.secret
        return (wanted, await self._host.secrets.ensure(record.instance_id, wanted)) if wanted else None


def _close(disks: list[Disk]) -> None:
    for disk in disks:
        if disk.lock_fd is not None:
            os.close(disk.lock_fd)
