"""A bare host side of agent/guest/CONTRACT.md: qemu with the contract's command line, and the channel. Only for tests.

It is written anew, without the agent's vm driver, so that the guest is tested against the contract and not against the
other half of the same code.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from agent.ports import GuestFiles

KERNEL_LINE = (
    "console=ttyS0 panic=-1 reboot=t quiet lpj=4000000 tsc=reliable tsc_early_khz=2000000"  # as in CONTRACT.md
)
BOOT_TIMEOUT_S = 60.0  # a busy machine, software emulation
END_TIMEOUT_S = 30.0
BOOT_ENV = {
    "hostname": "i-test",
    "address": "fec0::15/64",
    "gateway": "fec0::2",
    "address4": "10.0.2.15/24",
    "gateway4": "10.0.2.2",
    "dns": "",
    "user": "0:0",
    "workdir": "/",
    "stop_signal": "SIGTERM",
}


def archive(
    argv: list[str], boot_env: Mapping[str, str] | None = None, files: Mapping[str, bytes] | None = None
) -> bytes:
    """A boot archive with these changes to BOOT_ENV, and more entries."""
    environment = "".join(f"{key}={value}\n" for key, value in {**BOOT_ENV, **(boot_env or {})}.items())
    entries = {
        "boot.env": environment.encode(),
        "argv": "".join(f"{argument}\0" for argument in argv).encode(),
        "environ": b"PATH=/bin\0HOME=/\0",
        **(files or {}),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def empty_disk(path: Path, mebibytes: int) -> Path:
    with path.open("wb") as handle:
        handle.truncate(mebibytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True)
    return path


class Machine:
    def __init__(self, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self.process = process
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    async def start(
        cls, folder: Path, files: GuestFiles, root: Path, *, volumes: tuple[Path, ...] = (), forward: int = 0
    ) -> Machine:
        """`forward`: a host port on 127.0.0.1 that leads to the guest's 8443."""
        folder.mkdir(parents=True, exist_ok=True)
        disks = {"root": root, "layer": empty_disk(folder / "layer.ext4", 64)}
        disks |= {f"vol{number}": path for number, path in enumerate(volumes)}
        process = await asyncio.create_subprocess_exec(*_command(folder, files, disks, forward))
        machine = cls(folder, process)
        await machine.connect()
        return machine

    async def connect(self) -> None:
        async with asyncio.timeout(BOOT_TIMEOUT_S):
            while True:
                try:
                    self._reader, self._writer = await asyncio.open_unix_connection(str(self.folder / "channel.sock"))
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    return

    async def disconnect(self) -> None:
        assert self._writer is not None
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def send(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)

    def boot(self, content: bytes) -> None:
        self.send(b"BOOT %d\n" % len(content) + content)

    async def line(self, timeout_s: float = BOOT_TIMEOUT_S) -> str:
        """The next line of the guest; "" at the end of the machine."""
        assert self._reader is not None
        async with asyncio.timeout(timeout_s):
            return (await self._reader.readline()).decode().rstrip("\n")

    async def expect(self, wanted: str, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """HELLO may have been said more than once before it was answered."""
        while (heard := await self.line(timeout_s)) == "HELLO 1" != wanted:
            pass
        assert heard == wanted, f"expected {wanted!r}, heard {heard!r}; console:\n{self.console()}"

    async def end(self) -> int:
        """qemu's exit code."""
        async with asyncio.timeout(END_TIMEOUT_S):
            return await self.process.wait()

    def console(self) -> str:
        return (self.folder / "console.log").read_text(errors="replace")

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


def _command(folder: Path, files: GuestFiles, disks: Mapping[str, Path], forward: int) -> list[str]:
    network = "user,id=net,ipv4=on,ipv6=on,ipv6-net=fec0::/64,ipv6-host=fec0::2"
    if forward:
        network += f",hostfwd=tcp:127.0.0.1:{forward}-10.0.2.15:8443"
    command = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-M", "microvm,pic=off,pit=off,rtc=on,isa-serial=on,pcie=off,usb=off,graphics=off"),
        *("-accel", "tcg,thread=single,tb-size=32", "-cpu", "max", "-smp", "1", "-m", "128M"),
        *("-kernel", str(files.kernel), "-initrd", str(files.initramfs), "-append", KERNEL_LINE),
        *("-chardev", f"file,id=console,path={folder}/console.log", "-serial", "chardev:console"),
        *("-device", "virtio-serial-device"),
        *("-chardev", f"socket,id=channel,path={folder}/channel.sock,server=on,wait=off"),
        *("-device", "virtserialport,chardev=channel,name=trueup.0"),
        *("-netdev", network, "-device", "virtio-net-device,netdev=net"),
    ]
    for serial, path in disks.items():
        read_only = ",readonly=on" if serial == "root" else ""
        command += ["-drive", f"if=none,id={serial},file={path},format=raw{read_only}"]
        command += ["-device", f"virtio-blk-device,drive={serial},serial={serial}"]
    return command
