"""The sources that this controller follows, each with its parts: clone, sync, plans, forge, troubles.

Made by `reconciler.bootstrap` from `ControllerSettings.followed`. Every controller follows every source of its
settings, so that it can deliver secrets out of its own clones; who decides holds the lease git/SOURCE. One source's
trouble is its own: whatever fails here is shown for that source, and the others go on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from kit import logs
from kit.backoff import Backoff
from kit.clock import Clock
from kit.errors import Refusal, TrueupError
from reconciler.core.commands import Fence
from reconciler.core.decide.git.source_removal import Removal
from reconciler.core.quota_words import parse_limits
from reconciler.core.secret_file import ResolvedSecret, SecretManifest
from reconciler.git.bounded.turns import ReadingTurns
from reconciler.git.clone import BareClone, Fetching, kept_clones
from reconciler.git.notes import Notes, PushedNotes
from reconciler.git.signers_file import SignersFile
from reconciler.git.turns import FetchTurns
from reconciler.handlers import Handlers
from reconciler.leadership import Leases
from reconciler.planning import Planning
from reconciler.ports import Doc, EventLog, Views
from reconciler.revision_history import RevisionHistory
from reconciler.secret_delivery import Standing
from reconciler.server.deps import PlanCommit, ReadHistory
from reconciler.source_forge import SourceForge
from reconciler.source_settings import SourceSettings
from reconciler.tasks.git_sync import GitSync
from reconciler.tasks.notes import NotesLoop
from reconciler.vault import Accepted

REGISTER_BACKOFF = Backoff(first_s=0.5, cap_s=15.0)
REMOVAL_TTL_S = 30.0
_log = logs.get("sources")


class Resolves(Protocol):
    """`reconciler.sealer.Sealer`."""

    def resolve(self, secret: SecretManifest, accepted: Accepted = ...) -> ResolvedSecret: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all sources of a controller share."""

    state: Path
    sealer: Resolves
    log: EventLog
    views: Views
    handlers: Handlers
    leases: Leases
    token_key: bytes
    clock: Clock
    rng: random.Random


class FollowedSource:
    """One source. `lead` and `follow` are what runs with and without its lease."""

    def __init__(
        self, settings: SourceSettings, around: Surroundings, turns: FetchTurns, readings: ReadingTurns
    ) -> None:
        self.source = settings.source
        self.name = settings.name
        self._settings = settings
        self._around = around
        self._registering = ""
        bounds = Fetching(settings.access, settings.fetch_timeout_s, settings.fetch_bytes_max, turns)
        self.clone = BareClone(around.state, self.source, bounds)
        accepted = Accepted(settings.platform_recipient, settings.unbound_secrets)
        resolve = partial(around.sealer.resolve, accepted=accepted)
        self.sync = GitSync(
            source=self.source,
            clone=self.clone,
            resolve=resolve,
            log=around.log,
            views=around.views,
            see=around.handlers.see_revision,
            submit=around.handlers.submit_revision,
            refuse=around.handlers.refuse_revision,
            clock=around.clock,
            rng=around.rng,
            interval_s=settings.poll_interval_s,
            signers=_signers(settings.signers),
            readings=readings,
        )
        self.planning = Planning(
            self.source, self.clone, resolve, around.views, self.sync.judging.signatures, readings=readings
        )
        self.forge = SourceForge(
            settings.forge,
            self.source,
            self.clone,
            around.log,
            around.views,
            around.token_key,
            around.clock,
            around.rng,
            signers=_signers(settings.signers),
            readings=readings,
        )

        reading = self.planning.reading
        self.history = RevisionHistory(
            self.source, self.clone, around.log, around.views, lambda: self.sync.branch.fetched, reading
        )
        self.notes = NotesLoop(
            source_id=self.name,
            history=self.history,
            notes=Notes(self.clone.path),
            log=around.log,
            views=around.views,
            clock=around.clock,
            rng=around.rng,
            pushed=PushedNotes(self.clone.notes_path, self.clone.url, self.clone.git) if settings.push_notes else None,
        )

    async def lead(self, stop: asyncio.Event, fence: Fence) -> None:
        """A source that cannot be registered now is tried again; what it holds is read after that."""
        failures = 0
        while not stop.is_set():
            try:
                await self._around.handlers.register_source(self.source)
                await self._set_quotas()
                self._registering = ""
                await self.sync.run(stop, fence)
            except TrueupError as error:
                failures += 1
                self._registering = str(error)
                _log.warning("source not registered", source=self.name, why=str(error))
                await self._around.clock.sleep(REGISTER_BACKOFF.delay_s(failures, self._around.rng))

    async def _set_quotas(self) -> None:
        """As the settings of the controller that follows the source say."""
        org, project = self.source.org, self.source.project
        await self._around.handlers.set_quota(org, parse_limits(self._settings.org_quota))
        await self._around.handlers.set_quota(f"{org}/{project}", parse_limits(self._settings.project_quota))

    def look(self) -> None:
        """At the branch and at the pull requests, now."""
        self.sync.look()
        self.forge.look()

    async def close(self) -> None:
        self.planning.close()
        await self.forge.close()

    @property
    def trouble(self) -> str:
        """Why it cannot be followed now, "" when it can."""
        return self._registering or self.sync.trouble

    @property
    def fetch_age_s(self) -> float | None:
        """Since this controller last fetched it well; None before the first time."""
        at_s = self.sync.branch.fetched_at_s
        return None if at_s is None else max(0.0, self._around.clock.now_s() - at_s)


class FollowedSources:
    """All of them, by name."""

    def __init__(self, settings: Iterable[SourceSettings], around: Surroundings) -> None:
        turns, readings = FetchTurns(), ReadingTurns()
        self._around = around
        self._by_name = {each.name: FollowedSource(each, around, turns, readings) for each in settings}

    def __iter__(self) -> Iterator[FollowedSource]:
        return iter(self._by_name.values())

    def troubles(self) -> dict[str, str]:
        return {each.name: each.trouble for each in self if each.trouble}

    def notes_troubles(self) -> dict[str, str]:
        return {each.name: each.notes.trouble for each in self if each.notes.trouble}

    def behind(self) -> dict[str, int]:
        return {each.name: each.sync.branch.behind for each in self}

    def webhook_secrets(self, name: str) -> Sequence[bytes]:
        """None for a source that this controller does not follow."""
        found = self._by_name.get(name)
        return () if found is None else found.forge.webhook_secrets_now()

    async def close(self) -> None:
        for each in self:
            await each.close()

    def fetch_ages_s(self) -> dict[str, float | None]:
        return {each.name: each.fetch_age_s for each in self}

    def plans(self) -> dict[str, PlanCommit]:
        return {each.name: each.planning.document for each in self}

    def histories(self) -> dict[str, ReadHistory]:
        return {each.name: each.history.page for each in self}

    async def look(self, name: str) -> bool:
        """False: this controller does not follow it."""
        found = self._by_name.get(name)
        if found is not None:
            found.look()
        return found is not None

    def clones(self) -> list[BareClone]:
        """Where secrets are read from. Those of sources that are followed no longer are among them: what they declared
        stays, and its secrets are still delivered."""
        return [*(each.clone for each in self), *kept_clones(self._around.state, self._by_name)]

    async def remove(self, removal: Removal) -> int:
        """Deletes all that a source declared that nobody follows. The last event_id, 0 when there was nothing to do.
        `Refusal` as long as any controller follows it: its lease is held meanwhile."""
        lease = f"git/{removal.source_id}"
        fix = "take it out of the settings of every controller, and restart them"
        if removal.source_id in self._by_name:
            raise Refusal(f"remove the source {removal.source_id}", "it is followed", fix=fix, code="conflict")
        epoch = await self._around.leases.acquire(lease, REMOVAL_TTL_S)
        if epoch is None:
            why = "a controller follows it, or did until just now"
            raise Refusal(f"remove the source {removal.source_id}", why, fix=fix, code="conflict")
        try:
            recorded = await self._around.handlers.remove_source(removal, Fence(lease, epoch))
        finally:
            await self._around.leases.release(lease, epoch)
        return recorded.last_event_id

    async def standing(self, secret: str) -> Standing | None:
        """Where the secret stands in the applied commit of the source that declared it."""
        origin = (await self._around.views.get("resources", secret) or {}).get("origin") or {}
        source = await self._around.views.get("sources", origin.get("source_id", "")) or {}
        commit, path = source.get("applied_commit"), origin.get("path")
        return Standing(commit, path) if commit and path else None

    async def refresh(self, instance: Doc) -> None:
        """Returns after the next fetch of the source that declared the instance's app."""
        app = await self._around.views.get("resources", instance["app"]) or {}
        found = self._by_name.get((app.get("origin") or {}).get("source_id", ""))
        if found is not None:
            await found.sync.refresh()


def _signers(path: Path | None) -> SignersFile | None:
    """Read once here, so that a wrong file stops the start and not the first commit."""
    if path is None:
        return None
    file = SignersFile(path)
    file.trust()
    return file
