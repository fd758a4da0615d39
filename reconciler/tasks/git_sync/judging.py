"""A commit of the branch, judged in a worker thread against what is live now. Used by `GitSync` in each pass."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kit.clock import Clock
from kit.errors import Transient
from kit.logs import get
from reconciler.core.findings import Finding
from reconciler.core.revisions import Source
from reconciler.git.judge import Judged, judge
from reconciler.git.live_rows import Following
from reconciler.git.signatures import SignatureCheck
from reconciler.git.signers_file import SignersFile
from reconciler.ports import Views
from reconciler.tasks.git_sync.branch import Branch, Standing
from reconciler.tasks.git_sync.reading import SourceReading

DAMAGED_READS_MAX = 3
"""So many passes in a row that fetch well and then miss objects: the clone is damaged, and is made anew."""
_log = get("git-sync")


@dataclass(slots=True)
class Judging:
    """`signers`: None when no signatures are asked for."""

    source: Source
    reading: SourceReading
    branch: Branch
    views: Views
    clock: Clock
    signers: SignersFile | None = None
    _damaged_reads: int = 0
    _following: Following = field(init=False)

    def __post_init__(self) -> None:
        self._following = Following(self.source.source_id)

    async def judge(self, head: str, now: Standing, blamed: Mapping[str, tuple[Finding, ...]]) -> Judged:
        """`blamed`: what the live system has against apps of this very commit. `Transient` when it cannot be judged
        now."""
        snapshot = await self.views.snapshot(["resources"])
        try:
            async with self.reading.turn():
                judged = await asyncio.to_thread(self._judge, head, now, snapshot.rows["resources"], blamed)
        except Transient as error:
            await self._reading_failed(error)
            raise
        self._damaged_reads = 0
        return judged

    def signatures(self) -> SignatureCheck | None:
        """Read anew for every commit: a key that the operator ends is out at once. Here the wall clock does decide."""
        if self.signers is None:
            return None
        return SignatureCheck(self.signers.trust(), datetime.fromisoformat(self.clock.utc()))

    def _judge(
        self,
        head: str,
        now: Standing,
        resources: Mapping[str, Mapping[str, Any]],
        blamed: Mapping[str, tuple[Finding, ...]],
    ) -> Judged:
        bounded = self.reading.bounded
        return judge(
            self.source,
            bounded.objects,
            bounded.reader,
            head=head,
            base=now.applied,
            rows=resources,
            held=now.held,
            blamed=blamed,
            signatures=self.signatures(),
            rebound=now.rebound,
            since=now.revision.get("base") if now.again(head) else None,
            following=self._following,
        )

    async def _reading_failed(self, error: Transient) -> None:
        if error.code != "source_unreadable":
            return
        self._damaged_reads += 1
        if self._damaged_reads >= DAMAGED_READS_MAX:
            _log.warning("objects are missing, the clone is made anew", source=self.source.source_id)
            self._damaged_reads = 0
            await self.branch.renew()
