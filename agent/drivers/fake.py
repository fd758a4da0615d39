"""Machines without virtualisation, for tests: the same promises as `drivers.vm`, kept in memory.

`FakeWorld` is the host: it survives when a `FakeMachines` is closed, as real machines survive their agent. Tests make
guests start, end and die through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent.core.model import Exit, Machine
from agent.ports import MachineSpec, OnChange
from kit.canonical import digest
from kit.errors import Refusal, Transient


@dataclass
class FakeMachine:
    spec: MachineSpec
    boot_id: str
    alive: bool = True
    started: bool = False
    obeys: bool = True
    last_words: Exit | None = None


@dataclass
class FakeWorld:
    """`boots`: every start there ever was, as (instance, epoch). `start_error`: raised by starts of that instance.
    `starts_guests`: whether the guest's process starts at once."""

    machines: dict[str, FakeMachine] = field(default_factory=dict)
    boots: list[tuple[str, int]] = field(default_factory=list)
    start_error: dict[str, Exception] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    starts_guests: bool = True
    before_boot: Callable[[str], Awaitable[None]] | None = None
    listeners: list[OnChange] = field(default_factory=list)

    def changed(self, instance_id: str) -> None:
        for listener in self.listeners:
            listener(instance_id)

    def guest_started(self, instance_id: str) -> None:
        self.machines[instance_id].started = True
        self.changed(instance_id)

    def die(self, instance_id: str, words: Exit | None = None) -> None:
        machine = self.machines[instance_id]
        machine.alive = False
        machine.last_words = words or Exit("vm_died", "its process ended without a word of the guest")
        self.changed(instance_id)


class FakeMachines:
    def __init__(self, world: FakeWorld, on_change: OnChange) -> None:
        self._world = world
        self._on_change = on_change
        world.listeners.append(on_change)

    async def observe(self, instance_id: str) -> Machine:
        machine = self._world.machines.get(instance_id)
        if instance_id in self._world.unseen:
            return Machine("unknown")
        if machine is None or not machine.alive:
            return Machine("absent", last_words=machine.last_words if machine else None)
        return Machine("alive", machine.started, machine.boot_id, machine.last_words, machine.spec.epoch)

    async def ensure(self, spec: MachineSpec) -> Machine:
        machine = self._world.machines.get(spec.instance_id)
        if spec.instance_id in self._world.unseen:
            raise Transient(f"start machine {spec.instance_id}", "it cannot be seen", code="vmm_start_failed")
        if machine is None or not machine.alive:
            await self._boot(spec)
        return await self.observe(spec.instance_id)

    async def attach(self, instance_id: str, boot_archive: bytes | None = None) -> Machine:
        return await self.observe(instance_id)

    async def ask_to_stop(self, instance_id: str, grace_s: int) -> None:
        machine = self._world.machines[instance_id]
        if machine.obeys:
            self._world.die(instance_id, Exit("process_exited", "the process was ended by signal 15", 143))

    async def kill(self, instance_id: str) -> None:
        machine = self._world.machines.get(instance_id)
        if machine is not None and machine.alive:
            self._world.die(instance_id)

    async def remove(self, instance_id: str) -> None:
        if (await self.observe(instance_id)).presence != "absent":
            raise Refusal(f"remove machine {instance_id}", "it lives", fix="stop it first", code="vm_died")
        self._world.machines.pop(instance_id, None)

    async def known(self) -> tuple[str, ...]:
        return tuple(sorted(self._world.machines))

    async def close(self) -> None:
        self._world.listeners.remove(self._on_change)

    async def _boot(self, spec: MachineSpec) -> None:
        if self._world.before_boot is not None:
            await self._world.before_boot(spec.instance_id)
        if spec.instance_id in self._world.start_error:
            raise self._world.start_error[spec.instance_id]
        self._world.boots.append((spec.instance_id, spec.epoch))
        boot_id = digest([spec.instance_id, len(self._world.boots)], length=16)
        self._world.machines[spec.instance_id] = FakeMachine(spec, boot_id, started=self._world.starts_guests)
        asyncio.get_running_loop().call_soon(self._world.changed, spec.instance_id)
