"""What the agent's integration tests need of the host: the guest's files, an image that is on the node already, network
namespaces of their own, and a look at what was leaked.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.guest.build import build
from agent.ports import GuestFiles

REPOSITORY = Path(__file__).resolve().parents[3]
CLONE_NEWNET = 0x40000000
IMAGE_DIGEST = "ab" * 32
IMAGE = f"registry.test/site@sha256:{IMAGE_DIGEST}"


def guest_files() -> GuestFiles:
    """Built once into the repository's cache, shared by all tests."""
    return build(REPOSITORY / ".cache" / "guest")


SHOW_SECRET = "ls -ln /run/secrets/platform.env; cat /proc/mounts; ls -a /run/secrets; cat /run/secrets/platform.env"


def make_rootfs(folder: Path) -> Path:
    """A squashfs with busybox and a page."""
    tree = folder / "tree"
    for name in ("bin", "etc", "proc", "sys", "dev", "run", "tmp", "www"):
        (tree / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox, "install busybox-static"
    shutil.copy(busybox, tree / "bin" / "busybox")
    for applet in ("sh", "httpd", "sleep", "cat", "kill", "ls"):
        (tree / "bin" / applet).symlink_to("busybox")
    (tree / "www" / "index.html").write_text("hello from a guest\n")
    (tree / "www" / "secret.txt").symlink_to("/tmp/secret.txt")  # a tmpfs in the guest: the layer is a file of the host
    rootfs = folder / "root.squashfs"
    subprocess.run(["mksquashfs", str(tree), str(rootfs), "-quiet", "-no-progress"], check=True)
    return rootfs


def put_image(state: Path, rootfs: Path) -> None:
    """As if it had been pulled."""
    folder = state / "images" / f"sha256-{IMAGE_DIGEST}"
    folder.mkdir(parents=True)
    shutil.copy(rootfs, folder / "root.squashfs")
    image = {
        "argv": ["/bin/sh", "-c", f"({SHOW_SECRET}) >/tmp/secret.txt; exec httpd -f -p [::]:8080 -h /www"],
        "environment": {"PATH": "/bin"},
        "user": "0:0",
        "workdir": "/",
        "stop_signal": "SIGTERM",
    }
    size = (folder / "root.squashfs").stat().st_size
    document = {"reference": IMAGE, "squashfs_bytes": size, "image": image}
    (folder / "image.json").write_text(json.dumps(document))


@contextmanager
def network_namespace(name: str) -> Iterator[str]:
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread makes its sockets in that namespace. Nothing may be awaited inside."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        assert libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(there)
        os.close(home)


def machines_of(state: Path) -> list[int]:
    """Process ids of qemu processes that work on that state folder."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
        except OSError:
            continue
        if b"qemu-system" in command.split(b"\0")[0] and str(state).encode() in command:
            found.append(int(folder.name))
    return sorted(found)


def cgroups_of(node_key: str) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/trueup-{node_key}"))
