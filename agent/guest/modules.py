"""Which kernel modules a guest needs, in the order in which they can be loaded. Called by `build`.

The dependencies come from depmod's modules.dep, so that another kernel with other dependencies works too; a module that
the kernel has built in is left out.
"""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path, PurePosixPath

from kit.errors import Refusal

WANTED = ("virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "squashfs", "overlay")


def load_order(modules_dep: str, modules_builtin: str, wanted: tuple[str, ...] = WANTED) -> tuple[str, ...]:
    """Paths below the modules folder, dependencies first, each once."""
    needs = dict(_dependencies(modules_dep))
    by_name = {_name(path): path for path in needs}
    builtin = {_name(path) for path in modules_builtin.split()}
    order: list[str] = []
    for name in wanted:
        if name in by_name:
            _append(by_name[name], needs, order)
        elif name not in builtin:
            raise Refusal(
                f"find the kernel module {name}",
                "the kernel package neither contains it nor has it built in",
                fix="use a package linux-image-*-cloud-amd64 of Debian 12 or later",
                code="guest_build_failed",
            )
    return tuple(order)


def read(path: Path) -> bytes:
    """The module's bytes, unpacked: the guest's init loads plain ELF files."""
    content = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(content)
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _dependencies(modules_dep: str) -> list[tuple[str, tuple[str, ...]]]:
    lines = (line.split(":", 1) for line in modules_dep.splitlines() if ":" in line)
    return [(path, tuple(rest.split())) for path, rest in lines]


def _append(path: str, needs: dict[str, tuple[str, ...]], order: list[str]) -> None:
    """Depth first. Module dependencies have no cycle: depmod refuses one."""
    if path in order:
        return
    for needed in needs[path]:
        _append(needed, needs, order)
    order.append(path)


def _name(path: str) -> str:
    """kernel/drivers/net/virtio-net.ko.xz -> virtio_net: a module's name has no hyphen."""
    return PurePosixPath(path).name.split(".ko")[0].replace("-", "_")
