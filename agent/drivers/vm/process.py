"""Which process is an instance's machine, told so that a reused process id never fools us.

Called by `driver.py`. A machine is known by (host boot id, pid, start time). Besides, its process holds a lock on a
file that it inherited; the kernel drops it when the process is gone and not before, so that two machines of one
instance are impossible even when the agent dies between starting one and writing down its id.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    """`start_ticks`: field 22 of /proc/PID/stat, in clock ticks since the host booted."""

    host_boot_id: str
    pid: int
    start_ticks: int


def host_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity_of(pid: int) -> Identity | None:
    """None if that process is gone, or dead and only not buried yet."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in ("Z", "X"):
        return None
    return Identity(host_boot_id(), pid, int(fields[19]))


def lives(identity: Identity) -> bool:
    return identity_of(identity.pid) == identity


def open_pidfd(identity: Identity) -> int | None:
    """A handle on exactly that process, or None if it is gone. The caller closes it."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if lives(identity):
        return handle
    os.close(handle)
    return None


def kill(identity: Identity) -> None:
    """Ends exactly that process, if it still is."""
    handle = open_pidfd(identity)
    if handle is None:
        return
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)


def find_by_name(prefix: str) -> tuple[Identity, int] | None:
    """The qemu process with an argument `prefix` + epoch, and that epoch: for a machine whose process id was not
    written down in time."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            program, *arguments = (folder / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
        epochs = [argument.removeprefix(prefix) for argument in arguments if argument.startswith(prefix)]
        identity = identity_of(int(folder.name)) if epochs and epochs[0].isdigit() else None
        if identity is not None and program.endswith("qemu-system-x86_64"):
            return identity, int(epochs[0])
    return None


def take_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    descriptor = take_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False
