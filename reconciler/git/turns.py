"""How many fetches run at once. All sources of a controller share one `FetchTurns`; `clone` takes a turn per fetch.

Two bounds: a few per host, so that a forge is not overrun by those who follow many of its repositories; and some in
all, so that a controller that starts with a hundred sources does not start a hundred git processes. A fetch that takes
long keeps its place at its host and gives the common one back: hosts that stall hold up nobody but themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler.git.addresses import is_scp, ssh_host

PER_HOST_MAX = 3
AT_ONCE_MAX = 8
PATIENCE_S = 5.0
"""After this a fetch does not count among AT_ONCE_MAX any more."""


class FetchTurns:
    """On one event loop. `per_host_max`, `at_once_max`: processes; `patience_s`: seconds."""

    def __init__(
        self, *, per_host_max: int = PER_HOST_MAX, at_once_max: int = AT_ONCE_MAX, patience_s: float = PATIENCE_S
    ) -> None:
        self._per_host_max = per_host_max
        self._patience_s = patience_s
        self._at_once = asyncio.Semaphore(at_once_max)
        self._hosts: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def turn(self, url: str) -> AsyncIterator[None]:
        """Waits for a place; what waits is served in its order. How long the body may take is its own matter."""
        async with self._hosts.setdefault(place_of(url), asyncio.Semaphore(self._per_host_max)):
            place = _Place(self._at_once)
            await self._at_once.acquire()
            patience = asyncio.get_running_loop().call_later(self._patience_s, place.give_back)
            try:
                yield
            finally:
                patience.cancel()
                place.give_back()


@dataclass(slots=True)
class _Place:
    """Given back once, whoever is first."""

    among: asyncio.Semaphore
    held: bool = True

    def give_back(self) -> None:
        if self.held:
            self.held = False
            self.among.release()


def place_of(url: str) -> str:
    """The host; a local repository is a place of its own."""
    if is_scp(url) or url.startswith("ssh://"):
        return ssh_host(url)[0]
    return urlsplit(url).hostname or url
