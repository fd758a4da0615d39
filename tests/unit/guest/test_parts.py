"""The parts of the guest build that need no kernel package: module order, the cpio archive."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest

from agent.guest import cpio, modules
from kit.errors import Refusal

DEP = """kernel/net/core/failover.ko:
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/drivers/net/virtio-net.ko.xz: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko kernel/v/virtio.ko
kernel/v/virtio.ko: kernel/v/virtio_ring.ko
kernel/v/virtio_ring.ko:
"""


def test_a_module_comes_after_what_it_needs_and_once() -> None:
    order = modules.load_order(DEP, "kernel/fs/overlay.ko\n", ("virtio", "virtio_net", "overlay"))
    assert [path.rpartition("/")[2] for path in order] == [
        *("virtio_ring.ko", "virtio.ko", "failover.ko", "net_failover.ko", "virtio-net.ko.xz"),
    ]


def test_a_kernel_without_a_needed_module_is_refused() -> None:
    with pytest.raises(Refusal, match="squashfs") as caught:
        modules.load_order(DEP, "", ("squashfs",))
    assert "linux-image" in caught.value.fix


def test_compressed_modules_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.ko.gz"
    path.write_bytes(gzip.compress(b"ELF"))
    assert modules.read(path) == b"ELF"


def test_cpio_reads_the_archive_back(tmp_path: Path) -> None:
    entries = [cpio.folder("dev"), cpio.console(), cpio.file("init", b"#!odd", 0o755), cpio.file("a/b", b"")]
    packed = cpio.archive(entries)
    assert packed == cpio.archive(entries)
    listed = subprocess.run(["cpio", "-tv"], input=gzip.decompress(packed), capture_output=True, check=True)
    lines = [line.split() for line in listed.stdout.decode().splitlines()]
    assert [(line[0], line[-1]) for line in lines] == [
        *(("drwxr-xr-x", "dev"), ("crw-------", "dev/console"), ("-rwxr-xr-x", "init"), ("-rw-r--r--", "a/b")),
    ]
