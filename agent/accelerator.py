"""Does hardware virtualisation really run a guest here? Called once at the agent's start, when the setting says `auto`.

/dev/kvm can exist, answer, and still hang every stock guest (nested virtualisation): so the proof is a guest that boots
under it and says HELLO within a short time. Otherwise guests run under tcg, software emulation, and the reason goes to
the log. The answer is kept in the state folder until the host reboots or QEMU or the guest's kernel changes; it goes to
the vm driver's command line and, with the enrolment, to the controller.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kit.canonical import digest
from kit.codec import from_json, to_json
from kit.errors import Refusal
from kit.files import write_json

KVM = Path("/dev/kvm")
VERSION_TIMEOUT_S = 10.0
DEATH_TIMEOUT_S = 5.0
_HELLO = b"HELLO 1"
_COMMAND_LINE = "console=ttyS0 panic=-1 reboot=t quiet"


@dataclass(frozen=True, slots=True)
class Accelerator:
    name: Literal["kvm", "tcg"]
    reason: str  # why, for the log


async def probe(qemu: str, kernel: Path, initramfs: Path, timeout_s: float = 8.0) -> Accelerator:
    """Boots one guest under KVM, at most `timeout_s`. Never raises for a machine without KVM."""
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Accelerator("tcg", f"{KVM} cannot be opened: {error.strerror}")
    process = await asyncio.create_subprocess_exec(
        *_command(qemu, kernel, initramfs),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said = await _listen(process, timeout_s)
    finally:
        await _end(process)
    if _HELLO in said:
        return Accelerator("kvm", "a guest booted under KVM")
    last_words = said.decode(errors="replace").strip()[-200:] or "it said nothing"
    return Accelerator("tcg", f"no guest came up under KVM within {timeout_s} s: {last_words}")


async def remembered_probe(
    state: Path, qemu: str, kernel: Path, initramfs: Path, timeout_s: float = 8.0
) -> Accelerator:
    """Like `probe`, but answers at once from STATE/accelerator.json while nothing that matters has changed."""
    key = digest([_boot_id(), await _version(qemu), kernel.stat().st_size, initramfs.stat().st_size, str(kernel)])
    path = state / "accelerator.json"
    known = _recall(path, key)
    if known is None:
        known = await probe(qemu, kernel, initramfs, timeout_s)
        write_json(path, {"key": key, "answer": to_json(known)})
    return known


def _command(qemu: str, kernel: Path, initramfs: Path) -> list[str]:
    """A machine without disk or network whose channel is its standard output."""
    machine = "microvm,pic=off,pit=off,rtc=on,isa-serial=on,pcie=off,usb=off,graphics=off"
    devices = ["-device", "virtio-serial-device", "-device", "virtserialport,chardev=channel,name=trueup.0"]
    return [
        *(qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-M", machine),
        *("-accel", "kvm", "-cpu", "max", "-smp", "1", "-m", "128M"),
        *("-kernel", str(kernel), "-initrd", str(initramfs), "-append", _COMMAND_LINE),
        *("-serial", "null", "-chardev", "stdio,id=channel,signal=off"),
        *devices,
    ]


async def _listen(process: asyncio.subprocess.Process, timeout_s: float) -> bytes:
    """What it said until HELLO, its end, or the deadline."""
    assert process.stdout is not None
    said = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while _HELLO not in said and (part := await process.stdout.read(4096)):
                said = (said + part)[-8192:]
    return said


async def _end(process: asyncio.subprocess.Process) -> None:
    """Killed, and waited for, unless the kernel holds it: then it is left to die when the kernel lets it."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), DEATH_TIMEOUT_S)


async def _version(qemu: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            qemu, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        raise Refusal(
            f"run {qemu}", error.strerror or str(error), fix="apt-get install qemu-system-x86", code="tool_missing"
        ) from error
    try:
        output, _ = await asyncio.wait_for(process.communicate(), VERSION_TIMEOUT_S)
    finally:
        if process.returncode is None:
            await _end(process)
    return output.decode(errors="replace").splitlines()[0]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _recall(path: Path, key: str) -> Accelerator | None:
    """A record that is absent, torn, or about another machine is no record."""
    try:
        document = json.loads(path.read_text())
        return from_json(Accelerator, document["answer"]) if document["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, Refusal):
        return None
