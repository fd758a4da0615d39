"""What /proc and postmaster.pid say about a Postgres server: is one running on this folder?

Called by `reconciler.store.server`. A pid alone proves nothing: it may belong to another program by now, or to a
zombie whose parent does not collect it. A process counts when it is called postgres and works in the data folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_STATUS_LINE = 7


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The content of postmaster.pid. `ready` is what the server last wrote about itself."""

    pid: int
    socket_folder: str
    ready: bool


def running(data: Path) -> Postmaster | None:
    """The server that runs on `data`, if one does."""
    written = _read(data)
    return written if written is not None and _works_in(Path(f"/proc/{written.pid}"), data) else None


def processes(data: Path) -> set[int]:
    """The live (not zombie) Postgres processes that work in `data`."""
    return {int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit() and _works_in(each, data)}


def remove_stale_locks(data: Path, socket_folder: Path) -> None:
    """Removes the pid file and the lock of the socket, whose server is gone. Only after `processes(data)` was empty,
    under the start lock.

    Postgres would see to that itself, but not when the pid is in use again or is a zombie's: it then refuses to start.
    """
    (data / "postmaster.pid").unlink(missing_ok=True)
    (socket_folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def _read(data: Path) -> Postmaster | None:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return Postmaster(
            pid=int(lines[0]),
            socket_folder=lines[4].strip() if len(lines) > 4 else "",
            ready=len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "ready",
        )
    except (OSError, ValueError, IndexError):
        return None  # absent, or half written by a server that is starting: `running` is asked again


def _works_in(entry: Path, data: Path) -> bool:
    """`entry` is a folder of /proc; its stat reads `pid (name) state ...`."""
    try:
        if (entry / "cwd").readlink() != data.resolve():
            return False
        head, _, tail = (entry / "stat").read_text().rpartition(")")
    except OSError:
        return False  # gone meanwhile, or another user's
    return head.endswith("(postgres") and tail.split()[0] not in ("Z", "X")


def signal_process(pid: int, number: int) -> None:
    """Sends a signal to a process that may have gone meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
