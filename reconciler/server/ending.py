"""The end of one open stream, for a reason that is its client's alone: told as its last line, so that the client knows.

Set on the request by `reconciler.server.standing`, looked at by `reconciler.server.streams`.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


class Ending:
    """`reason`: empty while the stream may go on."""

    def __init__(self) -> None:
        self.reason = ""
        self._wake: Callable[[], None] = lambda: None

    def end(self, reason: str) -> None:
        self.reason = reason
        self._wake()

    def wakes(self, wake: Callable[[], None]) -> None:
        """`wake` is called when it ends."""
        self._wake = wake


ENDING = web.RequestKey("ending", Ending)
