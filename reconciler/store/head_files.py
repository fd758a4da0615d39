"""Where exported heads are kept: a folder with one numbered file each, or one file with a line each. Only added to.

Called by `reconciler.store.heads`. The place is one that the database's host can add to at most: a mounted share that
keeps what is written, or another host that runs `trueup log export-head`. So nothing here needs the right to change or
remove: a new file is made under a name that must not be there yet, and whatever a crash or a full disk cut off is left
lying and passed over. A head that was cut off is no JSON; one that somebody made so is missed by the head after it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from kit.errors import Refusal, Transient

LINE_BYTES_MAX = 4096
"""A head has about 500 bytes."""

_NAME = re.compile(r"head-(\d{12})\.json")


@dataclass(frozen=True, slots=True)
class Line:
    """`where`: for people. `content`: without its end."""

    where: str
    content: bytes


def whole(line: bytes) -> bool:
    """A half of a JSON document is no JSON document."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class HeadFolder:
    path: Path

    def lines(self) -> Iterator[Line]:
        """Oldest first."""
        for number in sorted(self._numbers()):
            yield self._line(number)

    def newest(self) -> Line | None:
        found = (self._line(number) for number in sorted(self._numbers(), reverse=True))
        return next((line for line in found if whole(line.content)), None)

    def add(self, content: bytes, after: Line | None) -> None:
        """`Transient` when somebody else has added one after `after`."""
        number = max(self._numbers(), default=0) + 1
        if self.newest() != after:
            raise _overtaken(self.path)
        try:
            descriptor = os.open(self._file(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            raise _overtaken(self.path) from None
        with os.fdopen(descriptor, "wb", buffering=0) as handle:
            _write(handle, content + b"\n")
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _numbers(self) -> Iterator[int]:
        for name in os.listdir(self.path):  # noqa: PTH208  # names only: a share may be slow
            if found := _NAME.fullmatch(name):
                yield int(found[1])

    def _file(self, number: int) -> Path:
        return self.path / f"head-{number:012d}.json"

    def _line(self, number: int) -> Line:
        path = self._file(number)
        with path.open("rb") as handle:
            return Line(str(path), handle.read(LINE_BYTES_MAX).rstrip(b"\n"))


@dataclass(frozen=True, slots=True)
class HeadFile:
    path: Path

    def lines(self) -> Iterator[Line]:
        with self.path.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                yield Line(f"{self.path}:{number}", line.rstrip(b"\n"))

    def newest(self) -> Line | None:
        if not self.path.exists():
            return None
        return next((line for line in reversed(list(self.lines())) if whole(line.content)), None)

    def add(self, content: bytes, after: Line | None) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(descriptor, "rb+", buffering=0) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if self.newest() != after:
                raise _overtaken(self.path)
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            _write(handle, b"\n" * torn + content + b"\n")


def heads_at(path: Path) -> HeadFolder | HeadFile:
    """A folder has to be there: one that is made where a share should be mounted would be on the wrong host."""
    if path.is_dir():
        return HeadFolder(path)
    if not path.parent.is_dir():
        fix = "mount it, or name another place"
        raise Refusal(f"find the heads at {path}", "its folder is not there", fix=fix, code="heads_missing")
    return HeadFile(path)


def _write(handle: FileIO, content: bytes) -> None:
    written = handle.write(content)
    os.fsync(handle.fileno())
    if written != len(content):
        raise OSError(f"only {written} of {len(content)} bytes were written")


def _overtaken(path: Path) -> Transient:
    return Transient(f"add a head to {path}", "another process has added one meanwhile", code="heads_overtaken")
