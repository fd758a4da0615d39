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
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import TrueupError
from kit.waiting import first_of
from reconciler.core.commands import Fence
from reconciler.core.event_filter import EventFilter
from reconciler.core.events import Event
from reconciler.core.notes import NOTED, note_text
from reconciler.git.notes import Notes, PushedNotes
from reconciler.ports import EventLog, Views
from reconciler.revision_history import RevisionHistory

RECENT_MAX = 200
PAGE_EVENTS = 500
BATCH_MAX = 100
PENDING_MAX = 1_000
"""Commits that wait for their note; beyond it the oldest are let go."""
GAP_S = 2.0
"""Between two rounds, so that the steps of one commit are one note."""
WAIT_S = 30.0
VIEWS_TIMEOUT_S = 30.0
_log = logs.get("notes")


@dataclass(slots=True)
class NotesLoop:
    """`pushed`: None when the notes stay in the clone. `trouble`: why they cannot be written or pushed now."""

    source_id: str
    history: RevisionHistory
    notes: Notes
    log: EventLog
    views: Views
    clock: Clock
    rng: random.Random
    pushed: PushedNotes | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=2.0, cap_s=300.0))
    trouble: str = ""
    _cursor: int = -1
    _pending: dict[str, None] = field(default_factory=dict)
    _unpushed: dict[str, str] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set: in the clone only."""
        await self._repeat(stop, push=False)

    async def lead(self, stop: asyncio.Event, fence: Fence | None = None) -> None:
        """Until `stop` is set, and they are pushed too. Nothing is appended to the log: the fence has no use here."""
        await self._repeat(stop, push=True)

    async def _repeat(self, stop: asyncio.Event, *, push: bool) -> None:
        self._cursor, failures = -1, 0
        self._unpushed.clear()
        while not stop.is_set():
            pause_s = GAP_S
            try:
                await self.step(push=push)
                failures, self.trouble = 0, ""
            except Exception as error:  # whatever it is, only these notes wait
                failures += 1
                self._failed(error)
                pause_s = max(GAP_S, self.backoff.delay_s(failures, self.rng))
            await first_of(self.clock.sleep(pause_s), stop.wait())
            if not failures and not stop.is_set():
                await first_of(self.log.wait_past(self._cursor, WAIT_S), stop.wait())

    async def step(self, *, push: bool = False) -> None:
        """Everything that the log has by now. What fails stays pending."""
        await self._read()
        await self.views.wait_for(self._cursor, ["revisions"], VIEWS_TIMEOUT_S)
        at_s = int(datetime.fromisoformat(self.clock.utc()).timestamp())
        while batch := list(itertools.islice(self._pending, BATCH_MAX)):
            texts = {commit: text for commit in batch if (text := await self._text(commit))}
            noted = bool(texts) and await asyncio.to_thread(self.notes.write, texts, at_s)
            if noted:
                _log.info("commits noted", source=self.source_id, commits=len(texts))
            self._unpushed.update(texts if push else {})
            for commit in batch:
                self._pending.pop(commit, None)
        await self._push(at_s)

    async def _push(self, at_s: int) -> None:
        """After all notes are in the clone: a remote that takes none holds up none of them."""
        while len(self._unpushed) > PENDING_MAX:
            self._unpushed.pop(next(iter(self._unpushed)))
        while self.pushed is not None and self._unpushed:
            batch = dict(itertools.islice(self._unpushed.items(), BATCH_MAX))
            await self.pushed.push(batch, at_s)
            for commit in batch:
                self._unpushed.pop(commit, None)

    async def _text(self, commit: str) -> str:
        row = await self.views.get("revisions", f"{self.source_id}@{commit}")
        if row is None or row["status"] not in NOTED:
            return ""
        return note_text(row, *await self.history.facts(row))

    async def _read(self) -> None:
        if self._cursor < 0:
            head = (await self.log.head()).last_event_id
            recent = EventFilter(aggregate_types=("revision",), newest=True)
            self._note(await self.log.read(0, limit=RECENT_MAX, only=recent, upto=head))
            self._cursor = head
        only = EventFilter(aggregate_types=("revision", "deployment"))
        while True:
            head = (await self.log.head()).last_event_id
            events = await self.log.read(self._cursor, limit=PAGE_EVENTS, only=only, upto=head)
            self._note(events)
            if len(events) < PAGE_EVENTS:
                self._cursor = max(head, self._cursor)
                return
            self._cursor = events[-1].event_id

    def _note(self, events: Iterable[Event]) -> None:
        for event in events:
            if commit := _commit_of(event, self.source_id):
                self._pending.pop(commit, None)
                self._pending[commit] = None
        while len(self._pending) > PENDING_MAX:
            self._pending.pop(next(iter(self._pending)))

    def _failed(self, error: Exception) -> None:
        known = isinstance(error, TrueupError)
        self.trouble = str(error) if known else f"{type(error).__name__}: {error}"
        _log.warning("notes not written", exc=None if known else error, source=self.source_id, why=self.trouble)


def _commit_of(event: Event, source_id: str) -> str:
    """Whose note an event may change."""
    if event.aggregate_type == "revision":
        source, _, commit = event.aggregate_id.partition("@")
        return commit if source == source_id else ""
    return event.cause.commit if event.cause.source_id == source_id else ""
