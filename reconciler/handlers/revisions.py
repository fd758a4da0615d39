"""Revisions and sources into the log. Called by `reconciler.tasks.git_sync` and `reconciler.bootstrap`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from kit import logs
from kit.errors import Bug, Refusal, Transient
from reconciler.core.commands import Append, Appended, Conflict, Fence, GitCommand
from reconciler.core.decide import quotas, sources
from reconciler.core.decide.git import GitState, claim_refusal, decide_refused, decide_revision, decide_seen
from reconciler.core.events import Cause
from reconciler.core.revisions import Refused, RevisionApplied, RevisionRefused, RevisionSeen, Source, Submitted
from reconciler.handlers.appending import (
    ATTEMPTS_MAX,
    VIEW_WAIT_S,
    Appending,
    Recorded,
    busy,
    first_conflict,
    lease_lost,
    under,
    why_of,
)
from reconciler.ports import ViewSnapshot

GIT_VIEWS = ("deployments", "releases", "resources", "revisions", "sources")

_log = logs.get("handlers")


class RevisionHandlers(Appending):
    async def submit_revision(
        self, revision: RevisionApplied, commands: Sequence[GitCommand], fence: Fence | None = None
    ) -> Submitted | Refused:
        """All of a commit in one transaction, under `fence`. `Refused` when a claim of somebody else stands against it.
        `Transient` with code "base_moved" when another commit than `revision.base` is applied now: plan anew; with code
        "lease_lost" when another controller follows the source now; with code "source_suspended" when an operator has
        suspended it."""
        attempted = f"apply revision {revision.revision_id}"
        for _ in range(ATTEMPTS_MAX):
            snapshot = await self._fresh(GIT_VIEWS)
            state = _git_state(snapshot, revision)
            if state.source is None:
                why = f"the source {revision.source_id} is not registered"
                raise Refusal(attempted, why, fix="register it first", code="source_unknown")
            if state.source.get("suspended"):
                raise Transient(attempted, "an operator has suspended its source", code="source_suspended")
            if state.applied_commit == revision.commit != revision.base:
                return Submitted(snapshot.event_id, duplicate=True)
            if state.applied_commit != revision.base:
                now = state.applied_commit or "nothing"
                why = f"it was planned on {revision.base or 'nothing'}, and {now} is applied"
                raise Transient(attempted, why, fix="plan it anew", code="base_moved")
            # A commit may change thousands of apps; hooks and streams of this process are answered meanwhile.
            decision = await asyncio.to_thread(decide_revision, state, revision, commands)
            if isinstance(decision, Refused):
                return decision
            results = await self._event_log.append(under(decision, fence), atomic=True)
            conflict = first_conflict(results)
            if conflict is not None and conflict.kind == "fence":
                raise lease_lost(attempted, conflict)
            if conflict is None:
                return Submitted(max(result.last_event_id for result in results if isinstance(result, Appended)))
            if (refused := claim_refusal(conflict, decision)) is not None:
                return refused
            _log.info("revision decided anew", revision_id=revision.revision_id, why=why_of(conflict))
        raise busy(attempted)

    async def see_revision(self, revision: RevisionSeen, fence: Fence | None = None) -> Submitted:
        """One small append. A conflict means that somebody told of this commit meanwhile, so it is known."""
        attempted = f"record that revision {revision.revision_id} was seen"
        snapshot = await self._rows_of_revision(revision)
        append = decide_seen(_git_state(snapshot, revision), revision)
        if append is None:
            return Submitted(snapshot.event_id, duplicate=True)
        (result,) = await self._event_log.append(under([append], fence))
        if isinstance(result, Appended):
            return Submitted(result.last_event_id, duplicate=result.duplicate)
        if result.kind == "fence":
            raise lease_lost(attempted, result)
        raise Transient(attempted, why_of(result), code="version_conflict")

    async def refuse_revision(self, revision: RevisionRefused, fence: Fence | None = None) -> Submitted:
        attempted = f"refuse revision {revision.revision_id}"
        snapshot = await self._rows_of_revision(revision)
        append = decide_refused(_git_state(snapshot, revision), revision)
        if append is None:
            return Submitted(snapshot.event_id, duplicate=True)
        (result,) = await self._event_log.append(under([append], fence))
        if isinstance(result, Conflict) and result.kind == "fence":
            raise lease_lost(attempted, result)
        if isinstance(result, Conflict):
            raise Bug(attempted, why_of(result), code="command_id_reused")
        return Submitted(result.last_event_id, duplicate=result.duplicate)

    async def _rows_of_revision(self, revision: RevisionRefused | RevisionSeen) -> ViewSnapshot:
        """Its own row and its source's, and no others: there may be many."""
        views = ("revisions", "sources")
        head = await self._event_log.head()
        await self._views.wait_for(head.last_event_id, views, VIEW_WAIT_S)
        keys = {"revisions": revision.revision_id, "sources": revision.source_id}
        found = {view: {key: await self._views.get(view, key)} for view, key in keys.items()}
        rows = {view: {key: row for key, row in each.items() if row is not None} for view, each in found.items()}
        return ViewSnapshot(head.last_event_id, head.log_id, rows)

    async def register_source(self, source: Source) -> Recorded:
        cause = Cause("system", "controller", source.org, source_id=source.source_id)

        async def decide() -> Append | None:
            return sources.decide_source(await self._views.get("sources", source.source_id), source, cause)

        return await self._one(f"register source {source.source_id}", ("sources",), decide)

    async def set_quota(self, scope: str, limits: Mapping[str, int]) -> Recorded:
        """`scope`: ORG or ORG/PROJECT."""
        cause = Cause("system", "controller", scope.partition("/")[0])

        async def decide() -> Append | None:
            return quotas.decide_quota(await self._views.get("quotas", scope), scope, limits, cause)

        return await self._one(f"set the quota of {scope}", ("quotas",), decide)


def _git_state(snapshot: ViewSnapshot, revision: RevisionApplied | RevisionRefused | RevisionSeen) -> GitState:
    rows = snapshot.rows
    return GitState(
        resources=rows.get("resources", {}),
        releases=rows.get("releases", {}),
        deployments=rows.get("deployments", {}),
        revision=rows["revisions"].get(revision.revision_id),
        source=rows["sources"].get(revision.source_id),
        revisions=rows["revisions"],
    )
