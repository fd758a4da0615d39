"""Runs a program with a time limit, and with a size limit on the folder that it fills. Used by `fetch` and `unpack`.

The folder is measured while the program runs, so that a lying manifest or a decompression bomb is stopped within
seconds of passing the bound. The program is dead when this returns, however it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kit.errors import Refusal

MEASURE_EVERY_S = 1.0
MEASURE_SHARE = 0.1  # of the time at most: a folder of a million files takes seconds to walk
OUTPUT_BYTES_MAX = 8 << 20
DEATH_TIMEOUT_S = 10.0


class TooSlow(Exception):
    """The time limit passed. `args[0]` is the limit in seconds."""


class TooLarge(Exception):
    """The folder grew over its bound. `args[0]` is what was found, in bytes."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A folder that may grow to `bytes_max`."""

    folder: Path
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    output: bytes
    errors: str


async def run(
    command: Sequence[str], *, cwd: Path, timeout_s: float, package: str, watched: Watched | None = None
) -> Result:
    """Runs at low priority. Raises `TooSlow`, `TooLarge`, or `Refusal` (tool_missing) that names the `package`."""
    process = await _start(command, cwd, package)
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await _finish(process, watched)
    except TimeoutError as error:
        raise TooSlow(timeout_s) from error
    finally:
        await _end(process)
    return Result(process.returncode or 0, output, errors.decode(errors="replace"))


def tree_bytes(folder: Path) -> int:
    """What the files in it hold: the larger of length and blocks, hard links once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for status in _statuses(folder):
        identity = (status.st_dev, status.st_ino)
        if identity not in seen:
            seen.add(identity)
            length = status.st_size if stat.S_ISREG(status.st_mode) else 0
            total += max(length, status.st_blocks * 512)
    return total


async def _start(command: Sequence[str], cwd: Path, package: str) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *("nice", "-n", "10", *command),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise Refusal(
            f"run {command[0]}", "it is missing", fix=f"apt-get install {package}", code="tool_missing"
        ) from error


async def _finish(process: asyncio.subprocess.Process, watched: Watched | None) -> tuple[bytes, bytes]:
    assert process.stdout is not None
    assert process.stderr is not None
    readers = asyncio.gather(_read(process.stdout), _read(process.stderr), process.wait())
    try:
        while watched and not (await asyncio.wait([readers], timeout=await _measure(watched)))[0]:
            pass
        output, errors, _ = await readers
    except BaseException:
        readers.cancel()
        raise
    if watched:
        await _measure(watched)
    return output, errors


async def _measure(watched: Watched) -> float:
    """Seconds until the next look."""
    begun = time.monotonic()
    found = await asyncio.to_thread(tree_bytes, watched.folder)
    if found > watched.bytes_max:
        raise TooLarge(found)
    return max(MEASURE_EVERY_S, (time.monotonic() - begun) / MEASURE_SHARE)


async def _read(stream: asyncio.StreamReader) -> bytes:
    """All of it is read, so that the program never blocks; the end of it is kept."""
    kept = b""
    while part := await stream.read(1 << 16):
        kept = (kept + part)[-OUTPUT_BYTES_MAX:]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    """With its children: it leads a process group of its own."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), DEATH_TIMEOUT_S)


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    """Of everything below. Files may vanish and folders be unreadable meanwhile: they then count for nothing."""
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        yield entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
        except OSError:
            continue
