"""Where a reader of the change stream keeps how far its work is done. Used by `kit.follow_changes`.

A cursor is saved after the effect of what came before it is durable. So after a crash the same changes may come again,
and none is left out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from kit import logs
from kit.canonical import digest
from kit.errors import Refusal
from kit.files import write_atomically

FILE_BYTES_MAX = 64 * 1024
_log = logs.get("cursor")


class CursorStore(Protocol):
    """Who keeps the effect in a database can keep the cursor in the same transaction: then `load` reads it there, and
    `save` has nothing to do."""

    async def load(self) -> str:
        """Empty: there is none, so begin with a snapshot."""
        ...

    async def save(self, cursor: str) -> None:
        """Returns when it is durable."""
        ...


class CursorInMemory:
    """For who has no effect that outlives the process."""

    def __init__(self, cursor: str = "") -> None:
        self.cursor = cursor

    async def load(self) -> str:
        return self.cursor

    async def save(self, cursor: str) -> None:
        self.cursor = cursor


class CursorFile:
    """One file, whole after any crash. It is good for the filter that it was written with only, and for one process."""

    def __init__(self, path: Path, query: Mapping[str, str]) -> None:
        self._path = path
        self._query = dict(query)

    async def load(self) -> str:
        try:
            return self.read()
        except Refusal as error:
            _log.warning("cursor not usable, beginning with a snapshot", path=str(self._path), why=str(error))
            return ""

    def read(self) -> str:
        """Empty when there is no file; `Refusal` for one that is damaged, or of another filter."""
        try:
            with self._path.open("rb") as handle:
                content = handle.read(FILE_BYTES_MAX)
        except FileNotFoundError:
            return ""
        document = _document(content)
        if document is None:
            raise self._refusal("it is damaged, or no file of a cursor")
        if document["query"] != self._query:
            raise self._refusal(f"it was written with the filter {document['query']}, not with {self._query}")
        return str(document["cursor"])

    async def save(self, cursor: str) -> None:
        kept = {"cursor": cursor, "query": self._query}
        content = json.dumps({**kept, "digest": digest(kept)}).encode() + b"\n"
        await asyncio.to_thread(write_atomically, self._path, content)

    def _refusal(self, why: str) -> Refusal:
        fix = "remove it to begin anew"
        return Refusal(f"read the cursor in {self._path}", why, fix=fix, code="cursor_file_damaged")


def _document(content: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(content)
        kept = {"cursor": document["cursor"], "query": document["query"]}
        return kept if digest(kept) == document["digest"] else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
