"""A source that is followed, for tests: a repository made by git, a clone, git sync, handlers and scheduler on real
Postgres. Only the loops' timing is the test's own: it says when a pass is made."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from kit.clock import SystemClock
from reconciler.core.history import Entry, HistoryPage, Wanted
from reconciler.core.revisions import OnError, Rules, Source
from reconciler.git.clone import BareClone
from reconciler.revision_history import RevisionHistory
from reconciler.tasks.git_sync import GitSync, Looked
from reconciler.vault import resolve_offline
from tests.integration.git.repository import Repository
from tests.integration.tasks.controller import Controller
from tests.unit.planner.trees import ENVIRONMENT, app
from tests.unit.scheduler.world import ORG, PROJECT


@dataclass
class Followed:
    repository: Repository
    controller: Controller
    sync: GitSync
    history: RevisionHistory
    state: Path

    async def look(self) -> Looked:
        return await self.sync.step()

    async def pushed(self, files: dict[str, str] | None = None, message: str = "change") -> str:
        """A commit that is fetched and judged."""
        commit = self.repository.commit(files, message=message)
        await self.look()
        return commit

    async def statuses(self) -> dict[str, str]:
        """Commit -> its state."""
        return {row["commit"]: row["status"] for row in (await self.controller.rows("revisions")).values()}

    async def told(self, commit: str) -> list[str]:
        """The events of a commit, in order, without "revision."."""
        events = await self.controller.events()
        return [each.event_type[9:] for each in events if each.aggregate_id == f"main@{commit}"]

    async def log(self, wanted: Wanted | None = None) -> HistoryPage:
        await self.controller.caught_up()
        return await self.history.page(wanted or Wanted())

    async def entry(self, commit: str) -> Entry:
        return (await self.log(Wanted(start=commit, limit=1))).entries[0]


def follow(
    repository: Repository,
    controller: Controller,
    state: Path,
    *,
    rewrite: str = "",
    on_error: OnError = "refuse-commit",
) -> Followed:
    """A mistake in an app refuses the commit, unless the test wants the app alone held back."""
    rules = Rules(on_error=on_error)
    source = Source("main", ORG, PROJECT, str(repository.path), accepted_rewrite=rewrite, rules=rules)
    clone, store, handlers = BareClone(state, source), controller.store, controller.handlers
    sync = GitSync(
        source=source,
        clone=clone,
        resolve=resolve_offline,
        log=store.log,
        views=store.views,
        see=handlers.see_revision,
        submit=handlers.submit_revision,
        refuse=handlers.refuse_revision,
        clock=SystemClock(),
        rng=random.Random(1),
    )
    history = RevisionHistory(source, clone, store.log, store.views, lambda: sync.branch.fetched)
    return Followed(repository, controller, sync, history, state)


def site(digit: str = "a", more: str = "") -> dict[str, str]:
    """A whole tree: one app whose image ends with this digit."""
    return {"env.yaml": ENVIRONMENT, "apps/site.yaml": app(more=more).replace("ab" * 32, digit * 64)}
