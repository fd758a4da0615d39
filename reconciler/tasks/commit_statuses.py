"""Statuses of the commits that a source followed: applied, refused, converged, failed, superseded.

`reconciler.bootstrap` starts one per source with a forge, where its lease is held. It reads the log from where it began
and asks, for each commit that an event is about, what the views say of it now; the text is made by
`reconciler.core.revision_status`. So a status never says what is not in the log. At its start it goes over the newest
RECENT_MAX revision events: the forge knows which statuses it has, and nothing is sent twice.

A commit that cannot be told now is kept and tried again; one that the forge refuses is logged and let go, for nobody
can read a status of a commit that a forge does not have.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from kit import logs
from kit.clock import Clock
from kit.errors import Refusal, Transient
from reconciler.commits_to_tell import CommitsToTell
from reconciler.core.commands import Fence
from reconciler.core.events import Event
from reconciler.core.pulls import CommitStatus
from reconciler.core.revision_status import failed_deployments, revision_status
from reconciler.core.revisions import Source
from reconciler.ports import EventFilter, EventLog, Forge, Views

RECENT_MAX = 50
DEPLOYMENT_EVENTS_MAX = 1000
TOLD_MAX = 1000
PASS_GAP_S = 1.0
VIEWS_TIMEOUT_S = 30.0
_NOBODY_NOW = ("forge_rate_limited", "forge_unreachable")
"""The next commit would fare no better."""
_VIEWS = ("revisions", "sources")
_log = logs.get("statuses")


@dataclass(slots=True)
class CommitStatuses:
    """`link`: what statuses link to, with {commit} in it; "" for nothing."""

    source: Source
    forge: Forge
    log: EventLog
    views: Views
    clock: Clock
    rng: random.Random
    context: str = "trueup/apply"
    link: str = ""
    _commits: CommitsToTell = field(init=False)
    _told: dict[str, CommitStatus] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._commits = CommitsToTell(
            self.source.source_id,
            self.log,
            self.clock,
            self.rng,
            about=_commits_of,
            recent_max=RECENT_MAX,
            gap_s=PASS_GAP_S,
            logger=_log,
            blocked_s=self.forge.blocked_s,
        )

    @property
    def trouble(self) -> str:
        """Why the forge cannot be used now, "" when it can."""
        return self._commits.trouble

    async def run(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set. Nothing is appended to the log, so the term's fence has no use here. A new term begins
        with the recent revisions again: another controller may have left some untold."""
        self._told.clear()
        await self._commits.repeat(self.step, stop)

    async def step(self) -> None:
        """Everything that the log has by now. What fails stays pending."""
        await self._commits.read()
        await self.views.wait_for(self._commits.cursor, _VIEWS, VIEWS_TIMEOUT_S)
        left: Transient | None = None
        for commit in list(self._commits.waiting):
            try:
                await self._tell(commit)
            except Transient as error:
                if error.code in _NOBODY_NOW:
                    raise
                left = error
            else:
                self._commits.told(commit)
        if left is not None:
            raise left

    async def _tell(self, commit: str) -> None:
        row = await self.views.get("revisions", f"{self.source.source_id}@{commit}")
        if row is None:
            return
        applied = str((await self.views.get("sources", self.source.source_id) or {}).get("applied_commit") or "")
        failed = await self._failed(commit) if row["status"] in ("applied", "failed") else {}
        status = revision_status(self.context, row, applied, failed, self.link.replace("{commit}", commit))
        if self._told.get(commit) == status:
            return
        try:
            sent = await self.forge.put_status(commit, status)
        except Refusal as error:
            _log.error("a status is refused", source=self.source.source_id, commit=commit, why=str(error))
            return
        if sent:
            _log.info("commit told", source=self.source.source_id, commit=commit, state=status.state)
        self._remember(commit, status)

    async def _failed(self, commit: str) -> Mapping[str, str]:
        kinds = ("deployment.created", "deployment.status_changed")
        only = EventFilter(commit=commit, source_id=self.source.source_id, event_types=kinds, newest=True)
        return failed_deployments(
            await self.log.read(0, limit=DEPLOYMENT_EVENTS_MAX, only=only, upto=self._commits.cursor)
        )

    def _remember(self, commit: str, status: CommitStatus) -> None:
        self._told.pop(commit, None)
        self._told[commit] = status
        if len(self._told) > TOLD_MAX:
            self._told.pop(next(iter(self._told)))


def _commits_of(event: Event, source_id: str) -> list[str]:
    """Whose status an event may change: its commit's, and that of the commit which it takes the place of."""
    if event.aggregate_type == "revision":
        source, _, commit = event.aggregate_id.partition("@")
        base = event.payload.get("base") if event.event_type == "revision.applied" else ""
        return [each for each in (base, commit) if each] if source == source_id else []
    return [event.cause.commit] if event.cause.source_id == source_id and event.cause.commit else []
