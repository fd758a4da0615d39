"""The branch as this controller's clone has it, and what the views say is applied of it.

`GitSync` has one, whether it leads or only follows. What is applied is held on to in the clone, so that its secrets can
be read here even when the branch is rewritten.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kit.clock import Clock
from reconciler.core.outside import waits_outside
from reconciler.core.revisions import Source
from reconciler.git.applied import held_files
from reconciler.git.clone import BareClone
from reconciler.git.judge import is_rebound
from reconciler.ports import EventLog, Views
from reconciler.tasks.git_sync.reading import SourceReading

VIEWS_TIMEOUT_S = 30.0
REFRESH_S = 20.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Of the row of the view `sources`. `applied`: a commit, "" for none. `rebound`: it was applied for another folder
    or project. `held`: the apps that it holds back, each with its files that could not be read. `revision`: its row of
    the view `revisions`, where it holds anything back. `event_id`: as far as this is known."""

    applied: str
    suspended: bool
    rebound: bool
    held: Mapping[str, tuple[str, ...]]
    revision: Mapping[str, Any] = field(default_factory=dict)
    event_id: int = 0

    def again(self, head: str) -> bool:
        """Whether that head is applied, and as it should be, but for what it holds back."""
        return head == self.applied and not self.rebound

    @property
    def waits_outside(self) -> bool:
        return not self.suspended and waits_outside(self.revision.get("held") or ())


@dataclass(slots=True)
class Branch:
    """`fetched`: its head, "" before the first fetch. `behind`: how many commits were fetched and not applied because
    the source is suspended."""

    source: Source
    clone: BareClone
    reading: SourceReading
    log: EventLog
    views: Views
    clock: Clock
    fetched: str = ""
    fetched_at_s: float | None = None
    behind: int = 0
    _opened: bool = False
    _kept: str = ""
    _fetch_ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def fetch(self) -> str:
        """Its head. `Transient` ("source_unreadable") when that cannot be said."""
        try:
            if not self._opened:
                await self.clone.open()
                self._opened = True
            self.fetched = await self.clone.fetch()
            self.fetched_at_s = self.clock.now_s()
        finally:
            ended, self._fetch_ended = self._fetch_ended, asyncio.Event()
            ended.set()
        now = await self._standing()
        self.behind = await self._count_behind(now.applied) if now.suspended else 0
        return self.fetched

    async def next_fetch(self) -> None:
        """Returns when it has ended, well or not, or after REFRESH_S."""
        ended = self._fetch_ended
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_S):
                await ended.wait()

    async def standing(self) -> Standing:
        """Once the views show all that is in the log, our own last batch included."""
        head = await self.log.head()
        await self.views.wait_for(head.last_event_id, ["resources", "revisions", "sources"], VIEWS_TIMEOUT_S)
        now = await self._standing()
        held = now.held and await self.views.get("revisions", f"{self.source.source_id}@{now.applied}")
        return replace(now, revision=held or {}, event_id=head.last_event_id)

    async def keep(self, applied: str) -> None:
        """Holds on to what is applied, also after a restart, a renewal, or a crash right after the submission."""
        if self._kept != applied:
            await asyncio.to_thread(self.clone.keep_applied, applied)
            self._kept = applied

    async def renew(self) -> None:
        """Makes the clone anew: objects are missing although every fetch succeeds."""
        self._kept = ""
        self.reading.begin_anew()
        await self.clone.renew()

    async def _standing(self) -> Standing:
        row = await self.views.get("sources", self.source.source_id) or {}
        applied = str(row.get("applied_commit") or "")
        if applied:
            await self.keep(applied)
        return Standing(applied, bool(row.get("suspended")), is_rebound(self.source, row), held_files(row))

    async def _count_behind(self, applied: str) -> int:
        return await asyncio.to_thread(self.reading.count_between, applied, self.fetched)
