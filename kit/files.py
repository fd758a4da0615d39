"""Files that survive a crash: the old content or the new one, never a mixture."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from kit.errors import Refusal

PRIVATE_BYTES_MAX = 4096


def read_private(path: Path, bytes_max: int = PRIVATE_BYTES_MAX) -> bytes:
    """The beginning of a file that nobody else may read; `Refusal` ("key_exposed") when others may."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as handle:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise Refusal(f"read {path}", "others may read it", fix=f"chmod 600 {path}", code="key_exposed")
        return handle.read(bytes_max)


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Temporary file beside it, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, document: Any) -> None:
    write_atomically(path, json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
