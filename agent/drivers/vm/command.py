"""The command line of one machine. Pure. Called by `driver.py`; the guest's side is agent/guest/CONTRACT.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.ports import Disk, GuestFiles, Link, MachineSpec
from kit.errors import Refusal

DEVICES_MAX = 8  # virtio-mmio slots of `microvm`
SOCKET_PATH_BYTES_MAX = 107
TRANSLATION_CACHE_MIB = 32  # without a bound, software emulation takes hundreds of MiB per machine
KERNEL_LINE = "console=ttyS0 panic=-1 reboot=t quiet"
EMULATED_KERNEL_LINE = "lpj=4000000 tsc=reliable tsc_early_khz=2000000"


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one machine. Sockets are in the run folder, whose path is short."""

    run: Path
    console: Path

    @property
    def channel(self) -> Path:
        return self.run / "guest.sock"

    @property
    def monitor(self) -> Path:
        return self.run / "qmp.sock"

    @property
    def errors(self) -> Path:
        """What qemu itself complains about."""
        return self.run / "stderr"


def qemu_arguments(spec: MachineSpec, paths: Paths, guest: GuestFiles, accelerator: str, name: str) -> list[str]:
    """The arguments of qemu-system-x86_64. `name` tells this machine's process from all others."""
    devices = len(spec.disks) + 2
    if devices > DEVICES_MAX:
        why = f"{devices} devices, at most {DEVICES_MAX} fit"
        raise Refusal(f"boot {spec.instance_id}", why, fix="use fewer volumes", code="vmm_start_failed")
    if len(bytes(paths.channel)) > SOCKET_PATH_BYTES_MAX:
        why = f"the socket path {paths.channel} is too long"
        raise Refusal(f"boot {spec.instance_id}", why, fix="set a shorter --run folder", code="vmm_start_failed")
    return [
        *("-name", name, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-M", "microvm,acpi=on,pic=off,pit=off,rtc=on,isa-serial=on,pcie=off,usb=off,graphics=off"),
        *_accelerator(accelerator, spec.vcpus),
        *("-m", f"{-(-spec.memory_bytes // (1 << 20))}M", "-smp", str(spec.vcpus)),
        *("-kernel", str(guest.kernel), "-initrd", str(guest.initramfs)),
        *("-append", KERNEL_LINE + (f" {EMULATED_KERNEL_LINE}" if accelerator == "tcg" else "")),
        *("-chardev", f"file,id=console,path={_escape(paths.console)},append=on", "-serial", "chardev:console"),
        *("-qmp", f"unix:{_escape(paths.monitor)},server=on,wait=off"),
        *("-device", "virtio-serial-device,max_ports=2"),
        *("-chardev", f"socket,id=guest,path={_escape(paths.channel)},server=on,wait=off"),
        *("-device", "virtserialport,chardev=guest,name=trueup.0"),
        *_network(spec.link),
        *(argument for disk in spec.disks for argument in _disk(disk)),
    ]


def _accelerator(name: str, vcpus: int) -> tuple[str, ...]:
    if name != "tcg":
        return ("-accel", name, "-cpu", "max")
    threads = "single" if vcpus == 1 else "multi"
    return ("-accel", f"tcg,thread={threads},tb-size={TRANSLATION_CACHE_MIB}", "-cpu", "max")


def _disk(disk: Disk) -> tuple[str, ...]:
    read_only = "on" if disk.read_only else "off"
    # Errors go to the guest: by default a full host disk would pause the machine for good, without a word.
    options = f"format=raw,readonly={read_only},discard=unmap,werror=report,rerror=report"
    if disk.read_only:
        options = f"format=raw,readonly={read_only},rerror=report"
    return (
        *("-drive", f"id={disk.serial},if=none,file={_escape(disk.path)},{options}"),
        *("-device", f"virtio-blk-device,drive={disk.serial},serial={disk.serial}"),
    )


def _network(link: Link) -> tuple[str, ...]:
    device = ("-device", f"virtio-net-device,netdev=link,mac={link.mac}")
    if link.tap:
        return ("-netdev", f"tap,id=link,ifname={link.tap},script=no,downscript=no", *device)
    prefix = link.gateway.rsplit("::", 1)[0] + "::"
    forwards = "".join(f",hostfwd=tcp:{f.address}:{f.reach_port}-:{f.port}" for f in link.forwards)
    return ("-netdev", f"user,id=link,ipv6-net={prefix}/64,ipv6-host={link.gateway}{forwards}", *device)


def _escape(path: Path) -> str:
    return str(path).replace(",", ",,")
