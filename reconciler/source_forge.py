"""One source's forge, put together: its loops, its webhook secrets, what wakes them. Used by `reconciler.bootstrap`.

Everything about it comes from one `ForgeSettings`, so that a source more is one of these more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from kit import logs
from kit.clock import Clock
from kit.errors import TrueupError
from reconciler.core.revisions import Source
from reconciler.core.tokens import make_token
from reconciler.forges.opening import open_forge
from reconciler.forges.rest import RestForge
from reconciler.forges.settings import ForgeSettings
from reconciler.forges.webhook_secrets import webhook_secrets
from reconciler.git.bounded.turns import ReadingTurns
from reconciler.git.clone import BareClone
from reconciler.git.pull_clone import PullClone
from reconciler.git.signers_file import SignersFile
from reconciler.ports import EventLog, PlanFor, Views
from reconciler.pull_plan import PullPlan
from reconciler.tasks.commit_statuses import CommitStatuses
from reconciler.tasks.pull_requests import PullRequests

_log = logs.get("webhooks")


class SourceForge:
    """`pulls` and `statuses` are None for a source without a forge. `signers`: a file of its own. `plan_for`: another
    plan than `PullPlan`, of commits that are in the clone."""

    def __init__(
        self,
        settings: ForgeSettings,
        source: Source,
        clone: BareClone,
        log: EventLog,
        views: Views,
        token_key: bytes,
        clock: Clock,
        rng: random.Random,
        signers: SignersFile | None = None,
        readings: ReadingTurns | None = None,
        plan_for: Callable[[PullClone], PlanFor] | None = None,
    ) -> None:
        self._settings = settings
        self._source = source
        self._token_key = token_key
        self.forge: RestForge | None = None
        self.pulls: PullRequests | None = None
        self.statuses: CommitStatuses | None = None
        self._plan: PullPlan | None = None
        self.webhook_secrets()  # a file that is no good is said at the start
        if settings.kind:
            self.forge = open_forge(settings, source.url, clock, rng)
            pull_clone = PullClone(clone)
            self._plan = PullPlan(source, pull_clone, views, clock, signers, readings)
            self.pulls = PullRequests(
                source=source,
                forge=self.forge,
                clone=pull_clone,
                plan_for=plan_for(pull_clone) if plan_for else self._plan,
                views=views,
                clock=clock,
                rng=rng,
                interval_s=settings.poll_interval_s,
                context=f"{settings.context}/plan",
            )
            self.statuses = CommitStatuses(
                source=source,
                forge=self.forge,
                log=log,
                views=views,
                clock=clock,
                rng=rng,
                context=f"{settings.context}/apply",
                link=settings.link,
            )

    def look(self) -> None:
        if self.pulls is not None:
            self.pulls.look()

    def webhook_secrets(self) -> Sequence[bytes]:
        if self._settings.webhook_secret_file is None:
            return (make_token(self._token_key, "webhook", self._source.source_id).encode(),)
        return webhook_secrets(self._settings.webhook_secret_file)

    def webhook_secrets_now(self) -> Sequence[bytes]:
        """None while the file is no good: hooks are refused then, and polling goes on."""
        try:
            return self.webhook_secrets()
        except TrueupError as error:
            _log.error("webhooks cannot be checked", source=self._source.source_id, why=str(error))
            return ()

    async def close(self) -> None:
        if self._plan is not None:
            self._plan.close()
        if self.forge is not None:
            await self.forge.close()
