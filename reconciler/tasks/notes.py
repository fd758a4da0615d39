"""Notes on the commits of a source: refs/notes/trueup of the controller's clone says what became of each.

`reconciler.bootstrap` starts one `NotesLoop` per source in every controller. It follows the log, apart from the Git
loop, which it never holds up, and writes what the views say now of each commit that an event was about. At its start it
goes over the newest RECENT_MAX events; what is noted already is not written again. Where the operator asks for it, the
holder of the lease notes/SOURCE also pushes the notes to the source's repository (`lead`).

A clone or a remote that does not take them shows as `trouble`, and they are tried again. Nothing depends on a note.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from kit import logs
from kit.clock import Clock
from reconciler.commits_to_tell import CommitsToTell
from reconciler.core.commands import Fence
from reconciler.core.events import Event
from reconciler.core.notes import NOTED, between_text, note_text
from reconciler.core.revision_steps import WAS_APPLIED
from reconciler.git.notes import Notes, PushedNotes
from reconciler.ports import EventLog, Views
from reconciler.revision_history import RevisionHistory

RECENT_MAX = 200
BATCH_MAX = 100
UNPUSHED_MAX = 1_000
"""Beyond it the oldest are let go: their notes are in the clone."""
GAP_S = 2.0
"""Between two rounds, so that the steps of one commit are one note."""
VIEWS_TIMEOUT_S = 30.0
_log = logs.get("notes")


@dataclass(slots=True)
class NotesLoop:
    """`pushed`: None when the notes stay in the clone."""

    source_id: str
    history: RevisionHistory
    notes: Notes
    log: EventLog
    views: Views
    clock: Clock
    rng: random.Random
    pushed: PushedNotes | None = None
    _commits: CommitsToTell = field(init=False)
    _with_others: dict[str, None] = field(default_factory=dict)
    _unpushed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._commits = CommitsToTell(
            self.source_id,
            self.log,
            self.clock,
            self.rng,
            about=_commits_of,
            recent_max=RECENT_MAX,
            gap_s=GAP_S,
            logger=_log,
        )

    @property
    def trouble(self) -> str:
        """Why they cannot be written or pushed now, "" when they can."""
        return self._commits.trouble

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set: in the clone only."""
        self._unpushed.clear()
        await self._commits.repeat(self.step, stop)

    async def lead(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set, and they are pushed too. Nothing is appended to the log: the fence has no use here."""
        self._unpushed.clear()
        await self._commits.repeat(partial(self.step, push=True), stop)

    async def step(self, *, push: bool = False) -> None:
        """Everything that the log has by now. What fails stays pending."""
        await self._commits.read()
        await self.views.wait_for(self._commits.cursor, ["revisions"], VIEWS_TIMEOUT_S)
        at_s = int(datetime.fromisoformat(self.clock.utc()).timestamp())
        while batch := list(itertools.islice(self._commits.waiting, BATCH_MAX)):
            texts: dict[str, str] = {}
            for commit in batch:
                texts |= await self._texts(commit)
            await self._note(texts, at_s, push=push)
            for commit in batch:
                self._commits.told(commit)
        await self._push(at_s)

    async def _note(self, texts: Mapping[str, str], at_s: int, *, push: bool) -> None:
        """In the clone, in batches."""
        left = iter(texts.items())
        while batch := dict(itertools.islice(left, BATCH_MAX)):
            if await asyncio.to_thread(self.notes.write, batch, at_s):
                _log.info("commits noted", source=self.source_id, commits=len(batch))
            self._unpushed.update(batch if push else {})

    async def _push(self, at_s: int) -> None:
        """After all notes are in the clone: a remote that takes none holds up none of them."""
        while len(self._unpushed) > UNPUSHED_MAX:
            self._unpushed.pop(next(iter(self._unpushed)))
        while self.pushed is not None and self._unpushed:
            batch = dict(itertools.islice(self._unpushed.items(), BATCH_MAX))
            await self.pushed.push(batch, at_s)
            for commit in batch:
                self._unpushed.pop(commit, None)

    async def _texts(self, commit: str) -> Mapping[str, str]:
        """Its own note, and once those of the commits that came with it."""
        row = await self.views.get("revisions", f"{self.source_id}@{commit}")
        if row is None or row["status"] not in NOTED:
            return {}
        own = {commit: note_text(row, *await self.history.facts(row))}
        if commit in self._with_others or row["status"] not in WAS_APPLIED:
            return own
        others = await self.history.between(row)
        self._with_others[commit] = None
        if len(self._with_others) > UNPUSHED_MAX:
            self._with_others.pop(next(iter(self._with_others)))
        return {**{each: between_text(self.source_id, merge, commit) for each, merge in others.items()}, **own}


def _commits_of(event: Event, source_id: str) -> list[str]:
    """Whose note an event may change."""
    if event.aggregate_type == "revision":
        source, _, commit = event.aggregate_id.partition("@")
        return [commit] if source == source_id else []
    return [event.cause.commit] if event.cause.source_id == source_id and event.cause.commit else []
