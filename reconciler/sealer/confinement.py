"""What the sealer cannot do: be dumped, be swapped out, reach a network. Called once, by `child` at its start.

Linux only. What the kernel does not grant here is told: the controller logs it once, and the sealer works without it.
"""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

from reconciler.git.bounded.limits import Limits

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_MCL_ALL_ON_FAULT = 1 | 2 | 4
"""MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT: what is used stays in memory, and no more is taken for that."""
_CAP_IPC_LOCK = 14


def confine(limits: Limits) -> list[str]:
    """What could not be had, in words."""
    for what, bound in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.note_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ):
        resource.setrlimit(what, (bound, bound))
    libc = ctypes.CDLL(None, use_errno=True)
    missing = []
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        missing.append("its memory can be read by the controller's own user")
    may_lock = _may_lock(limits)
    if libc.unshare(_CLONE_NEWNET):
        may_lock = may_lock and not _is_capable()
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
            missing.append("it has the controller's network")
    if not may_lock or libc.mlockall(_MCL_ALL_ON_FAULT):
        missing.append("its memory may be swapped out (CAP_IPC_LOCK or a higher LimitMEMLOCK would prevent it)")
    return missing


def _may_lock(limits: Limits) -> bool:
    """With a bound below what the process may use, a lock would only make it fail later."""
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    enough = most in (resource.RLIM_INFINITY, -1) or most >= limits.memory_bytes
    if enough:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
    return enough or _is_capable()


def _is_capable() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return os.geteuid() == 0
