"""One controller per state folder: STATE/controller.lock. Called by `reconciler.bootstrap` before anything else.

The clone, the keys and the embedded Postgres in that folder belong to one process. The kernel frees the lock of a
process that was killed, so a lock that is left over never blocks; the file's content only names the holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from kit.errors import Refusal

LOCK = "controller.lock"


@contextlib.contextmanager
def state_lock(state: Path) -> Iterator[None]:
    """`Refusal` ("state_in_use") that names the holder's pid. The folder has to exist."""
    path = state / LOCK
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(state, os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _in_use(state: Path, pid: str) -> Refusal:
    return Refusal(
        f"use the state folder {state}",
        f"a controller runs on it, with pid {pid or 'unknown'}",
        fix="stop that one, or give this one a state folder of its own and both the same TRUEUP_DATABASE_URL",
        code="state_in_use",
    )
