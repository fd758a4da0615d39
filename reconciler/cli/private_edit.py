"""A text in somebody's editor that never touches a disk. Used by `trueup secret edit`.

The file lies in memory (a tmpfs), in a folder that nobody else may enter, and is overwritten and removed however the
editing ends: well, with an error, with the editor killed, or with this program told to stop.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from kit.errors import Refusal

FILE_BYTES_MAX = 4 << 20
_IN_MEMORY = ("tmpfs", "ramfs")
_SHARED_MEMORY = Path("/dev", "shm")
_STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextmanager
def private_file(content: bytes) -> Iterator[Path]:
    """A file of mode 0600 in memory. It and whatever the editor left beside it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="trueup-edit-", dir=_folder_in_memory()))
    before = {each: signal.signal(each, _stop) for each in _STOPS}
    try:
        path = folder / "values.env"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(content)
        yield path
    finally:
        _wipe(folder)
        for each, handler in before.items():
            signal.signal(each, handler)


def edit(path: Path, environ: Mapping[str, str] = os.environ) -> bytes:
    """What the file holds after $VISUAL, else $EDITOR, else vi. `Refusal` when the editor did not end well."""
    command = shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "vi")
    try:
        code = subprocess.run([*command, str(path)], check=False).returncode
    except OSError as error:
        raise _ended(f"{command[0]} cannot be run: {error.strerror}") from error
    if code:
        raise _ended(f"{command[0]} was killed by signal {-code}" if code < 0 else f"{command[0]} ended with {code}")
    with path.open("rb") as handle:
        return handle.read(FILE_BYTES_MAX)


def _ended(why: str) -> Refusal:
    return Refusal("edit a secret", f"{why}; nothing was changed", fix="set VISUAL or EDITOR", code="editor_failed")


def _folder_in_memory() -> Path:
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    for each in (own, _SHARED_MEMORY):
        if os.access(each, os.W_OK) and _file_system(each) in _IN_MEMORY:
            return each
    fix = "mount one: mount -t tmpfs tmpfs /dev/shm"
    raise Refusal("edit a secret", "there is no writable tmpfs to keep it in", fix=fix, code="no_tmpfs")


def _file_system(folder: Path) -> str:
    """The type of the one that a folder lies on."""
    with Path("/proc/self/mounts").open() as mounts:
        rows = [line.split() for line in mounts]
    over = [(len(row[1]), number, row[2]) for number, row in enumerate(rows) if folder.resolve().is_relative_to(row[1])]
    return max(over, default=(0, 0, ""))[2]


def _wipe(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("r+b") as handle:
                handle.write(b"\0" * path.stat().st_size)
    shutil.rmtree(folder, ignore_errors=True)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
