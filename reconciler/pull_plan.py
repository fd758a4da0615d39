"""The plan of a pull request, by the judgement that its commit would meet when merged: `reconciler.ports.PlanFor`.

`reconciler.source_forge` gives it to `reconciler.tasks.pull_requests`. Source, guards, signers and settings are the
operator's; from the pull request come only commits. Nothing is decrypted: secrets are resolved without the platform's
key, on both sides of the difference alike.

Two things cannot be as they will be. The merge was made here and nobody signed it: it is left out of the signatures
that are checked, all commits in it are not. And who merges may be the second signer that a rule asks for: what is
missing there is a warning in a plan.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kit.clock import Clock
from reconciler.core.findings import Finding, ordered
from reconciler.core.plan_markdown import render_plan
from reconciler.core.pulls import RenderedPlan
from reconciler.core.revisions import Source
from reconciler.git.judge import Judged, judge, reader_for
from reconciler.git.pull_clone import PullClone
from reconciler.git.signatures import SignatureCheck
from reconciler.git.signers_file import SignersFile, Trust
from reconciler.git.tree_reader import TreeReader
from reconciler.ports import Views
from reconciler.vault import resolve_offline

MAY_COME = frozenset({"signers_too_few"})
"""Codes of findings that the merge itself may settle."""


class JudgedPlan:
    """`clone` has both commits. `signers`: a file of its own, not shared with another task. For one task at a time."""

    def __init__(
        self, source: Source, clone: PullClone, views: Views, clock: Clock, signers: SignersFile | None = None
    ) -> None:
        self._source = source
        self._clone = clone
        self._views = views
        self._clock = clock
        self._signers = signers
        self._reader: TreeReader | None = None

    async def __call__(self, base_commit: str, head_commit: str) -> RenderedPlan:
        rows = (await self._views.snapshot(["resources"])).rows["resources"].values()
        ours = [row for row in rows if (row.get("origin") or {}).get("source_id") == self._source.source_id]
        return await asyncio.to_thread(self._plan, base_commit, head_commit, ours)

    def _plan(self, base: str, head: str, rows: list[Mapping[str, Any]]) -> RenderedPlan:
        """In a worker thread."""
        trust = self._trust(head)
        judged = self._judge(base, head, rows, trust)
        missing = [_as_warning(each) for each in judged.findings if each.code in MAY_COME]
        if trust is not None and missing:
            without = dataclasses.replace(trust, policy=dataclasses.replace(trust.policy, rules=()))
            judged = self._judge(base, head, rows, without)
        return render_plan(judged.plan, ordered([*judged.findings, *missing]))

    def _judge(self, base: str, head: str, rows: list[Mapping[str, Any]], trust: Trust | None) -> Judged:
        """The reader lives on, so that only what changes is parsed."""
        objects = self._clone.objects()
        reader = self._reader or reader_for(self._source, objects, resolve_offline)
        self._reader = None  # after an error it is made anew: it may look at a clone that is gone
        now = datetime.fromisoformat(self._clock.utc())
        signatures = SignatureCheck(trust, now) if trust else None
        judged = judge(self._source, objects, reader, head=head, base=base, rows=rows, signatures=signatures)
        self._reader = reader
        return judged

    def _trust(self, head: str) -> Trust | None:
        if self._signers is None:
            return None
        trust = self._signers.trust()
        if not self._clone.made(head):
            return trust
        policy = dataclasses.replace(trust.policy, accepted=trust.policy.accepted | {head})
        return dataclasses.replace(trust, policy=policy)


def _as_warning(finding: Finding) -> Finding:
    return dataclasses.replace(finding, severity="warning")
