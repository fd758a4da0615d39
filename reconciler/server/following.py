"""The position of one connection in one log, and the bytes that come next. Used by `reconciler.server.streams`."""

from __future__ import annotations

import json

from kit.errors import TrueupError
from reconciler.server.ending import Ending
from reconciler.server.hub import Hub
from reconciler.server.ring import bookmark_line


class Following:
    """`key`: see `reconciler.core.filters`. `ending`: for reasons of its own. `cut_off`: why the connection before it
    was."""

    def __init__(self, hub: Hub, key: str, position: int, ending: Ending, cut_off: str = "") -> None:
        self._hub = hub
        self.ending = ending
        self._key = key
        self._log_id = hub.current_ring().log_id
        self._generation = hub.generation
        self._cut_off = cut_off
        self.position = position
        self.sent_changes = False
        self.end_reason = ""

    def hello(self) -> bytes:
        told = {"cut_off": self._cut_off} if self._cut_off else {}
        return line_of(type="hello", log_id=self._log_id, cursor=f"{self._log_id}.{self.position}", **told)

    def bookmark(self) -> bytes:
        return bookmark_line(self._log_id, self.position)

    def end(self) -> bytes:
        return line_of(type="end", reason=self.end_reason)

    def at_the_end(self) -> bool:
        """The ring has nothing behind the position, for any key."""
        return self.position >= self._hub.current_ring().head

    async def next_piece(self, wait_s: float = 0) -> bytes:
        """Changes and their bookmark; after `wait_s` without a change the bookmark alone; empty at the end."""
        try:
            if wait_s and not self.ended():
                await self._hub.wait(self._key, self.position, wait_s)
            if self.ended():
                return b""
            piece = await self._hub.read(self._key, self.position)
        except TrueupError as error:
            self.end_reason = error.code
            return b""
        if self.ended():  # while it was read the log may have become another one
            return b""
        self.position = piece.position
        self.sent_changes = bool(piece.lines)
        return b"".join(piece.lines) + self.bookmark()

    def ended(self) -> bool:
        moved = "log_changed" if self._hub.generation != self._generation else ""
        self.end_reason = self.end_reason or self.ending.reason or self._hub.closing or moved
        return bool(self.end_reason)


def line_of(**fields: str) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
