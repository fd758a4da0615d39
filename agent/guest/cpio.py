"""A `newc` cpio archive, as Linux reads an initramfs. Called by `build`. Equal entries give equal bytes.

No root and no `cpio` program is needed: device nodes and owners are only numbers in the archive.
"""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """`mode` includes the type (stat.S_IFREG, S_IFDIR, S_IFCHR). `device` is (major, minor) of a node."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str) -> Entry:
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, content: bytes, mode: int = 0o644) -> Entry:
    return Entry(name, stat.S_IFREG | mode, content)


def console() -> Entry:
    """The kernel opens it as PID 1's output before any file system is mounted."""
    return Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))


def archive(entries: Iterable[Entry]) -> bytes:
    """The gzip-packed archive. Owner root, time 0; inode numbers count from 1."""
    packed = b"".join(_record(number, entry) for number, entry in enumerate(entries, start=1))
    return gzip.compress(packed + _record(0, Entry("TRAILER!!!", 0)), compresslevel=6, mtime=0)


def _record(inode: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + name) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
