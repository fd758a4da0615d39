"""Machines as detached QEMU processes. Used by `agent.actors` through `agent.ports.MachineDriver`.

Promises: the intent is on disk before the process starts; a machine lives on when the agent ends; at most one machine
per instance, ever (the lock that its process inherits); a machine is adopted without being disturbed.

    STATE/vm/KEY.json      instance, epoch, identity (empty: only intended)      KEY: digest of the instance's id
    STATE/vm/KEY.lock      held by the machine's process
    STATE/console/KEY.log  bounded console
    RUN/KEY/               sockets and pid file
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from agent.core.model import Exit, Machine
from agent.drivers.vm import console, launch, process
from agent.drivers.vm.attached import Attached
from agent.drivers.vm.command import Paths, qemu_arguments
from agent.drivers.vm.machine_file import MachineFile, read_machine_file
from agent.ports import GuestFiles, MachineSpec, OnChange
from kit import logs
from kit.canonical import digest
from kit.codec import to_json
from kit.errors import Refusal, Transient
from kit.files import write_json

QEMU = "qemu-system-x86_64"
DEATH_TIMEOUT_S = 10.0
STOP_LINE_TIMEOUT_S = 3.0
CONSOLE_CHECK_S = 5.0
_log = logs.get("vm")


class QemuMachines:
    """`accelerator`: "kvm" or "tcg"."""

    def __init__(self, state: Path, run: Path, guest: GuestFiles, accelerator: str, on_change: OnChange) -> None:
        self._state = state
        self._run = run
        self._guest = guest
        self._accelerator = accelerator
        self._on_change = on_change
        self._node_key = digest(str(state.resolve()), length=8)
        self._attached: dict[str, Attached] = {}
        self._consoles: asyncio.Task[None] | None = None

    async def observe(self, instance_id: str) -> Machine:
        attached = self._attached.get(instance_id)
        if attached is not None and not process.lives(attached.identity):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DEATH_TIMEOUT_S):
                    await attached.gone.wait()
        identity, presence = self._find(instance_id)
        file = self._read(instance_id)
        if presence == "absent":
            return Machine("absent", last_words=self._last_words(instance_id) if file else None)
        if identity is None or file is None:
            return Machine("unknown")
        words = attached.guest.last_words if attached else None
        started = attached is not None and attached.guest.state in ("started", "ended")
        return Machine("alive", started, file.boot_id, words, file.epoch)

    async def ensure(self, spec: MachineSpec) -> Machine:
        identity, presence = self._find(spec.instance_id)
        if presence == "unknown":
            why = "its lock is held by a process that cannot be found"
            raise Transient(f"start machine {spec.instance_id}", why, code="vmm_start_failed")
        if identity is None:
            await self._start(spec)
        return await self.attach(spec.instance_id, spec.boot_archive)

    async def attach(self, instance_id: str, boot_archive: bytes | None = None) -> Machine:
        self._watch_consoles()
        identity, _ = self._find(instance_id)
        if identity is not None and not self._holds(instance_id, identity):
            await self._drop(instance_id)
            pidfd = process.open_pidfd(identity)
            if pidfd is not None:
                paths = self._paths(instance_id)
                self._attached[instance_id] = Attached(identity, pidfd, paths, lambda: self._on_change(instance_id))
        if boot_archive is not None and instance_id in self._attached:
            self._attached[instance_id].hand_over(boot_archive)
        return await self.observe(instance_id)

    async def ask_to_stop(self, instance_id: str, grace_s: int) -> None:
        await self.attach(instance_id)
        attached = self._attached.get(instance_id)
        if attached is not None and not await attached.say_surely(b"STOP %d\n" % grace_s, STOP_LINE_TIMEOUT_S):
            raise Transient(f"stop machine {instance_id}", "its guest does not listen", code="vm_died")

    async def kill(self, instance_id: str) -> None:
        machine = await self.attach(instance_id)
        attached = self._attached.get(instance_id)
        if machine.presence == "absent" or attached is None:
            return
        attached.kill()
        try:
            async with asyncio.timeout(DEATH_TIMEOUT_S):
                await attached.gone.wait()
        except TimeoutError:
            why = f"process {attached.identity.pid} is still there {DEATH_TIMEOUT_S:.0f} s after SIGKILL"
            raise Transient(f"kill machine {instance_id}", why, code="vm_died") from None

    async def remove(self, instance_id: str) -> None:
        if self._find(instance_id)[1] != "absent":
            raise Refusal(f"remove machine {instance_id}", "it lives", fix="stop it first", code="vm_died")
        await self._drop(instance_id)
        paths = self._paths(instance_id)
        shutil.rmtree(paths.run, ignore_errors=True)
        for path in (self._file(instance_id), self._lock(instance_id), paths.console, console.older(paths.console)):
            path.unlink(missing_ok=True)

    async def known(self) -> tuple[str, ...]:
        files = (read_machine_file(path) for path in sorted((self._state / "vm").glob("*.json")))
        return tuple(file.instance_id for file in files if file is not None)

    async def close(self) -> None:
        if self._consoles is not None:
            self._consoles.cancel()
        for instance_id in list(self._attached):
            await self._drop(instance_id)

    async def _start(self, spec: MachineSpec) -> None:
        attempted = f"start machine {spec.instance_id}"
        paths = self._paths(spec.instance_id)
        name = f"{self._name(spec.instance_id)}{spec.epoch}"
        arguments = qemu_arguments(spec, paths, self._guest, self._accelerator, name)
        shutil.rmtree(paths.run, ignore_errors=True)
        paths.run.mkdir(parents=True, mode=0o700)
        paths.console.parent.mkdir(parents=True, exist_ok=True)
        paths.console.unlink(missing_ok=True)
        write_json(self._file(spec.instance_id), to_json(MachineFile(spec.instance_id, spec.epoch)))
        lock = process.take_lock(self._lock(spec.instance_id))
        if lock is None:
            raise Transient(attempted, "another process holds its lock", code="vmm_start_failed")
        try:
            inherited = [lock, *(disk.lock_fd for disk in spec.disks if disk.lock_fd is not None)]
            pid = await launch.launch(attempted, [QEMU, *arguments], paths, spec.cgroup_files, inherited)
        finally:
            os.close(lock)
        identity = process.identity_of(pid)
        if identity is not None:
            self._write(MachineFile(spec.instance_id, spec.epoch), identity)
            await launch.await_qemu(attempted, identity, paths)
        if identity is None or not process.lives(identity):
            raise Transient(attempted, f"qemu ended at once: {launch.complaint(paths)}", code="vmm_start_failed")
        _log.info("machine started", instance_id=spec.instance_id, epoch=spec.epoch, pid=identity.pid)

    def _find(self, instance_id: str) -> tuple[process.Identity | None, str]:
        """The living process, and the presence. A held lock without a process that can be found is `unknown`."""
        file = self._read(instance_id)
        if file is not None and file.identity is not None and process.lives(file.identity):
            return file.identity, "alive"
        if not process.is_locked(self._lock(instance_id)):
            return None, "absent"
        found = process.find_by_name(self._name(instance_id))
        if found is None:
            return None, "unknown"
        identity, epoch = found
        self._write(MachineFile(instance_id, epoch), identity)
        return identity, "alive"

    def _last_words(self, instance_id: str) -> Exit:
        attached = self._attached.get(instance_id)
        said = attached.guest.last_words if attached else None
        return (
            said
            or console.last_words(self._paths(instance_id).console)
            or Exit("vm_died", "its process ended without a word of the guest")
        )

    def _holds(self, instance_id: str, identity: process.Identity) -> bool:
        return instance_id in self._attached and self._attached[instance_id].identity == identity

    async def _drop(self, instance_id: str) -> None:
        attached = self._attached.pop(instance_id, None)
        if attached is not None:
            await attached.close()

    def _watch_consoles(self) -> None:
        if self._consoles is None or self._consoles.done():
            self._consoles = asyncio.create_task(self._keep_consoles_short())

    async def _keep_consoles_short(self) -> None:
        while True:
            for instance_id in self._attached:
                for file in (self._paths(instance_id).console, self._paths(instance_id).errors):
                    console.keep_short(file)
            await asyncio.sleep(CONSOLE_CHECK_S)

    def _write(self, file: MachineFile, identity: process.Identity) -> None:
        known = MachineFile(file.instance_id, file.epoch, identity.host_boot_id, identity.pid, identity.start_ticks)
        write_json(self._file(file.instance_id), to_json(known))

    def _read(self, instance_id: str) -> MachineFile | None:
        return read_machine_file(self._file(instance_id))

    def _paths(self, instance_id: str) -> Paths:
        key = _key(instance_id)
        return Paths(self._run / key, self._state / "console" / f"{key}.log")

    def _file(self, instance_id: str) -> Path:
        return self._state / "vm" / f"{_key(instance_id)}.json"

    def _lock(self, instance_id: str) -> Path:
        return self._state / "vm" / f"{_key(instance_id)}.lock"

    def _name(self, instance_id: str) -> str:
        """What the names of its processes begin with; the epoch follows."""
        return f"trueup-{self._node_key}-{_key(instance_id)}-"


def _key(instance_id: str) -> str:
    return digest(instance_id, length=12)
