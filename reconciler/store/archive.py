"""Copies the oldest events of the log into compressed files that a rebuild can still read. Never deletes.

Called by `trueup log archive` and, to read, by `trueup views rebuild --archive` through `Store`. DIR holds
events-FIRST-LAST.jsonl.gz, one event a line with every column that the table has, and MANIFEST.json: for each file its
first and last event_id, its SHA-256, and what the first and last row say of the hash chain, if the table has one. A
file is complete once the manifest names it: both are written beside their place and renamed. A second run goes on where
the manifest ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from kit.errors import Refusal, Transient
from kit.files import write_atomically
from reconciler.store.pool import borrowed
from reconciler.store.stored_event import PLACE_NAMES, REST_NAMES, StoredEvent

MANIFEST = "MANIFEST.json"
PENDING = ".pending"
FILE_EVENTS_MAX = 100_000
READ_EVENTS = 2_000
"""At a time, from the table and from a file."""

LINES = "SELECT row_to_json(e)::text FROM events e WHERE event_id > $1 AND event_id <= $2 ORDER BY event_id"

HEAD = "SELECT log_id, last_event_id FROM log_head"

_decode = msgspec.json.Decoder().decode

Progress = Callable[[int, int], None]


class Archiver:
    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool

    async def archive(self, before: int, folder: Path, progress: Progress = lambda done, upto: None) -> dict[str, Any]:
        """Copies the events with event_id < `before` that DIR does not have yet; returns the manifest."""
        async with borrowed(self._pool, "read the head of the log") as connection:
            log_id, head = await connection.fetchrow(HEAD) or ("", 0)
        if not 1 < before <= head + 1:
            why = f"the log has the events 1 to {head}"
            raise Refusal(f"archive the events before {before}", why, code="invalid_argument")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(folder):
            return await self._go_on(before, folder, log_id, progress)

    async def _go_on(self, before: int, folder: Path, log_id: str, progress: Progress) -> dict[str, Any]:
        for left in folder.glob(f"*{PENDING}"):
            left.unlink()  # a run that was killed
        empty: dict[str, Any] = {"log_id": log_id, "files": []}
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else empty
        if manifest["log_id"] != log_id:
            why = f"it holds the log {manifest['log_id']}, this one is {log_id}"
            raise Refusal(f"archive into {folder}", why, fix="name another folder", code="archive_foreign")
        last = manifest["files"][-1]["last_event_id"] if manifest["files"] else 0
        while last < before - 1:
            upto = min(last + FILE_EVENTS_MAX, before - 1)
            manifest["files"].append(await self._write_file(folder, last, upto))
            write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2).encode(), mode=0o600)
            progress(upto, before - 1)
            last = upto
        return manifest

    async def _write_file(self, folder: Path, after: int, upto: int) -> dict[str, Any]:
        name = f"events-{after + 1:012d}-{upto:012d}.jsonl.gz"
        pending, first, text = folder / f"{name}{PENDING}", "", ""
        with gzip.open(pending, "wb", compresslevel=6) as file:
            for start in range(after, upto, READ_EVENTS):
                async with borrowed(self._pool, f"read the log after event {start}") as connection:
                    lines = await connection.fetch(LINES, start, min(start + READ_EVENTS, upto))
                for (text,) in lines:
                    first = first or text
                    file.write(text.encode() + b"\n")
        sha256 = _sha256(pending)
        with pending.open("rb+") as file:
            os.fsync(file.fileno())
        pending.rename(folder / name)  # the folder reaches the disk with the manifest
        ends = {"first_event_id": after + 1, "last_event_id": upto}
        return {"name": name, **ends, "sha256": sha256, **_chain(first, "first_"), **_chain(text, "last_")}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer per folder; the kernel frees the lock of one that was killed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Transient(f"archive into {folder}", "another run does so", code="archive_running") from None
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise Refusal(f"read the archive {folder}", f"{MANIFEST}: {error}", code="archive_invalid") from error
    return found


async def archived(folder: Path, log_id: str) -> AsyncIterator[Sequence[StoredEvent]]:
    """The events of an archive, from the first one on, in pages. Every file is held against its digest before it is
    read. Raises `Refusal` for another log's archive, a changed file, a gap."""
    expected = 1
    for path in whole_files(folder, log_id):
        for page in _pages(path):
            if page[0].event_id != expected or page[-1].event_id != expected + len(page) - 1:
                raise invalid(path, f"event {expected} does not follow the one before it")
            expected = page[-1].event_id + 1
            yield page


def whole_files(folder: Path, log_id: str) -> Iterator[Path]:
    """The archive's files, in order; each is held against its digest before it is given. `Refusal` names the one that
    is missing or damaged."""
    manifest = read_manifest(folder)
    if manifest["log_id"] != log_id:
        raise invalid(folder, f"it holds the log {manifest['log_id']}, this one is {log_id}")
    for entry in manifest["files"]:
        path = folder / Path(entry["name"]).name
        if not path.is_file():
            raise invalid(path, "it is missing")
        if _sha256(path) != entry["sha256"]:
            raise invalid(path, "it is not what the manifest says")
        yield path


def _pages(path: Path) -> Iterator[list[StoredEvent]]:
    page: list[StoredEvent] = []
    with gzip.open(path, "rb") as file:
        for line in file:
            document = _decode(line)
            place, rest = [document[name] for name in PLACE_NAMES], [document[name] for name in REST_NAMES]
            page.append(StoredEvent(place, rest, document["payload"], len(line)))
            if len(page) == READ_EVENTS:
                yield page
                page = []
    if page:
        yield page


def _chain(line: str, prefix: str) -> dict[str, Any]:
    """What the row says of the hash chain: columns that are called so."""
    document = json.loads(line)
    return {prefix + name: value for name, value in document.items() if "hash" in name}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def invalid(path: Path, why: str) -> Refusal:
    return Refusal(f"read the archive {path}", why, fix="use an intact copy of it", code="archive_invalid")
