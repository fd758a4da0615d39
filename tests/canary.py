"""Looking for a value that must be nowhere, byte by byte, in the forms that somebody might have written it in."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

PIECE_BYTES = 8 << 20


def forms(canary: bytes) -> Iterator[bytes]:
    """The bytes themselves, backwards, and as other programs would write them, wherever in a longer text they begin.
    JSON and addresses leave most of them as they are."""
    yield canary
    yield canary[::-1]
    for text in (canary.hex(), canary.hex().upper(), canary.hex(" "), canary.hex(":")):
        yield text.encode()
    for before in ("%", "\\x", "\\u00"):
        yield "".join(f"{before}{byte:02x}" for byte in canary).encode()
    yield b"\0".join(canary[place : place + 1] for place in range(len(canary)))  # UTF-16, whichever way
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            coded = encode(b"x" * shift + canary)
            yield coded[4 if shift else 0 : -4]


def search(content: bytes, needles: Sequence[bytes]) -> list[bytes]:
    return [needle for needle in needles if needle in content]


def files_with(folder: Path, needles: Sequence[bytes]) -> tuple[list[str], int, int]:
    """Which files below `folder` hold one of them; how many files were read, and how many bytes. Holes, which disks of
    machines are full of, are passed over."""
    found, files, size = [], 0, 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        files += 1
        holds, read = _holds(path, needles)
        size += read
        found += [str(path.relative_to(folder))] if holds else []
    return found, files, size


def _holds(path: Path, needles: Sequence[bytes]) -> tuple[bool, int]:
    overlap, size, tail = max(map(len, needles)) - 1, 0, b""
    try:
        with path.open("rb") as file:
            for piece in _pieces(file.fileno()):
                size += len(piece)
                if search(tail + piece, needles):
                    return True, size
                tail = piece[-overlap:]
    except OSError:  # it went meanwhile: the database tidies up
        return False, size
    return False, size


def _pieces(descriptor: int) -> Iterator[bytes]:
    place, end = 0, os.fstat(descriptor).st_size
    while place < end:
        try:
            place = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError:  # a hole up to the end
            return
        piece = os.pread(descriptor, PIECE_BYTES, place)
        if not piece:
            return
        yield piece
        place += len(piece)
