"""The plan of a pull request: production's own (`reconciler.planning`), of the merge, seen by strangers.

`reconciler.source_forge` gives it to `reconciler.tasks.pull_requests` as its `PlanFor`. Source, guards, signers and
settings are the operator's; from the pull request come only commits. Nothing is decrypted: secrets are resolved without
the platform's key, on both sides of the difference alike.

Two things cannot be as they will be. The merge was made here and nobody signed it: it is left out of the signatures
that are checked, all commits in it are not. And who merges may be the second signer that a rule asks for: what is
missing there is a warning in a plan.
"""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime

from kit.clock import Clock
from reconciler.core.findings import Finding, ordered
from reconciler.core.preview import PlanDocument, RenderedPlan
from reconciler.core.preview.markdown import rendered
from reconciler.core.revisions import Source
from reconciler.git.bounded.turns import ReadingTurns
from reconciler.git.pull_clone import PullClone
from reconciler.git.signatures import SignatureCheck
from reconciler.git.signers_file import SignersFile, Trust
from reconciler.planning import WAIT_S, Planning
from reconciler.ports import Views
from reconciler.vault import resolve_offline

MAY_COME = frozenset({"signers_too_few"})
"""Codes of findings that the merge itself may settle."""


class PullPlan:
    """`clone` has both commits. `signers`: a file of its own, not shared with another task. For one task at a time."""

    def __init__(
        self,
        source: Source,
        clone: PullClone,
        views: Views,
        clock: Clock,
        signers: SignersFile | None = None,
        readings: ReadingTurns | None = None,
    ) -> None:
        self._clone = clone
        self._clock = clock
        self._signers = signers
        self._check: SignatureCheck | None = None
        self._renewals = clone.renewals
        self._planning = Planning(
            source,
            clone,
            resolve_offline,
            views,
            signatures=lambda: self._check,
            readings=readings or ReadingTurns(),
        )

    async def __call__(self, base_commit: str, head_commit: str) -> RenderedPlan:
        trust = await asyncio.to_thread(self._trust, head_commit)
        document = await self._document(base_commit, head_commit, trust)
        missing = [dataclasses.replace(each, severity="warning") for each in document.findings if _may_come(each)]
        if trust is not None and missing:
            without = dataclasses.replace(trust, policy=dataclasses.replace(trust.policy, rules=()))
            document = await self._document(base_commit, head_commit, without)
            document = dataclasses.replace(document, findings=ordered([*document.findings, *missing]))
        return rendered(document, named=False)

    def close(self) -> None:
        self._planning.close()

    async def _document(self, base: str, head: str, trust: Trust | None) -> PlanDocument:
        if self._renewals != self._clone.renewals:
            self._renewals = self._clone.renewals
            self._planning.close()
        now = datetime.fromisoformat(self._clock.utc())
        self._check = SignatureCheck(trust, now) if trust else None
        return await self._planning.document(base, head, wait_s=WAIT_S)

    def _trust(self, head: str) -> Trust | None:
        if self._signers is None:
            return None
        trust = self._signers.trust()
        if not self._clone.made(head):
            return trust
        policy = dataclasses.replace(trust.policy, accepted=trust.policy.accepted | {head})
        return dataclasses.replace(trust, policy=policy)


def _may_come(finding: Finding) -> bool:
    return finding.code in MAY_COME
