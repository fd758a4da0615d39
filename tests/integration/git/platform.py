"""What stands around git sync in these tests: a log and views in memory, and handlers that apply what they get."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from kit.clock import SystemClock
from reconciler.core.commands import (
    Append,
    AppendResult,
    DeclareResource,
    Fence,
    GitCommand,
    RemoveResource,
    RetainResource,
)
from reconciler.core.events import Event
from reconciler.core.revisions import Refused, RevisionApplied, RevisionRefused, RevisionSeen, Source, Submitted
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.clone import BareClone
from reconciler.ports import Doc, EventFilter, Head, ViewSnapshot
from reconciler.tasks.git_sync import GitSync
from reconciler.vault import Vault


class Platform:
    """Log, views and handlers in one. `applied` and `refused` are what was recorded, in order."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, object]] = {}
        self.applied: list[tuple[RevisionApplied, tuple[GitCommand, ...]]] = []
        self.seen: list[RevisionSeen] = []
        self.refused: list[RevisionRefused] = []
        self.answer: Refused | None = None
        self.suspended = False

    # --- handlers ---

    async def submit(
        self, revision: RevisionApplied, commands: Sequence[GitCommand], fence: Fence | None = None
    ) -> Submitted | Refused:
        if self.answer is not None:
            return self.answer
        self.applied.append((revision, tuple(commands)))
        for command in commands:
            self._apply(command, revision.source_id)
        return Submitted(len(self.applied))

    async def see(self, revision: RevisionSeen, fence: Fence | None = None) -> Submitted:
        self.seen.append(revision)
        return Submitted(len(self.applied))

    async def refuse(self, revision: RevisionRefused, fence: Fence | None = None) -> Submitted:
        if revision.command_id not in {each.command_id for each in self.refused}:
            self.refused.append(revision)
        return Submitted(len(self.applied))

    def _apply(self, command: GitCommand, source_id: str) -> None:
        origin = {"source_id": source_id, "path": command.cause.path, "line": command.cause.line}
        match command:
            case DeclareResource():
                text = str(command.resource.id)
                spec = dict(command.resource.spec)
                marks = {"protect": command.resource.marks.protect, "removal": command.resource.marks.removal}
                self.rows[text] = {"resource_id": text, "spec": spec, "retained": "", "origin": origin, **marks}
            case RemoveResource():
                del self.rows[str(command.resource_id)]
            case RetainResource():
                text = str(command.resource_id)
                self.rows[text] = {**self.rows[text], "retained": command.reason}

    # --- log and views ---

    async def head(self) -> Head:
        return Head("log", len(self.applied))

    async def append(self, batch: Sequence[Append], *, atomic: bool = True) -> list[AppendResult]:
        raise NotImplementedError

    async def read(
        self, after: int, *, limit: int, only: EventFilter | None = None, upto: int | None = None
    ) -> list[Event]:
        raise NotImplementedError

    async def wait_past(self, event_id: int, timeout_s: float) -> int:
        raise NotImplementedError

    async def wait_for(self, event_id: int, views: Iterable[str], timeout_s: float) -> None:
        assert event_id <= len(self.applied)

    async def get(self, view: str, key: str) -> Doc | None:
        commit = self.applied[-1][0].commit if self.applied else ""
        held = {each.app: each.files for each in self.applied[-1][0].held} if self.applied else {}
        return {"source_id": key, "applied_commit": commit, "suspended": self.suspended, "held_back": held}

    async def snapshot(self, views: Iterable[str]) -> ViewSnapshot:
        return ViewSnapshot(
            len(self.applied), "log", {"resources": dict(self.rows)}
        )  # as the real ones: never changed again

    # --- what a test asks ---

    def declared(self) -> set[str]:
        return {text.split("/", 2)[2] for text, row in self.rows.items() if not row["retained"]}


def sync_for(
    platform: Platform,
    state: Path,
    repository: str,
    *,
    path: str = "",
    interval_s: float = 60.0,
    rewrite: str = "",
    reading: ReadingProcess | None = None,
) -> GitSync:
    source = Source("main", "org", "project", repository, path=path, accepted_rewrite=rewrite)
    return GitSync(
        source=source,
        clone=BareClone(state, source),
        resolve=Vault.open_or_create(state / "platform.agekey").resolve,
        log=platform,
        views=platform,
        see=platform.see,
        submit=platform.submit,
        refuse=platform.refuse,
        clock=SystemClock(),
        rng=random.Random(1),
        interval_s=interval_s,
        reading=reading,
    )
