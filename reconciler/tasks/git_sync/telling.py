"""What a pass decides about a commit, told to the log: that it was seen, is applied, or is refused.

Used by `GitSync`. The same is never told twice by one controller; what another one told already, the handlers know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kit.errors import Refusal
from kit.logs import get
from reconciler.core.commands import Fence
from reconciler.core.findings import Finding, errors
from reconciler.core.planner import Plan, revision_of
from reconciler.core.revision_steps import SeeRevision
from reconciler.core.revisions import (
    PassedOver,
    Refused,
    RefuseRevision,
    RevisionRefused,
    RevisionSeen,
    Source,
    SubmitRevision,
    Submitted,
    refused_command_id,
    revision_cause,
)
from reconciler.git.judge import Judged

_log = get("git-sync")


@dataclass(slots=True)
class Telling:
    """`fence`: of the term in which it is told."""

    source: Source
    see: SeeRevision
    submit: SubmitRevision
    refuse: RefuseRevision
    fence: Fence | None = None
    _seen: tuple[str, str] = ("", "")

    def begin(self, fence: Fence | None) -> None:
        """A new term: what was told before it may have been told in vain."""
        self.fence, self._seen = fence, ("", "")

    async def seen(self, seen: RevisionSeen) -> None:
        if seen.commit != seen.base and self._seen != (seen.commit, seen.base):
            await self.see(seen, self.fence)
            self._seen = (seen.commit, seen.base)

    async def applied(
        self, judged: Judged, planned: Plan, seen: RevisionSeen, over: PassedOver, *, again: bool = False
    ) -> Submitted | Refused:
        """`Refused`: the live system has something against it, and nothing is changed. `again`: it is what is applied,
        and was planned when it was."""
        revision = revision_of(
            planned,
            self.source,
            judged.info,
            judged.findings,
            held=judged.held,
            released=judged.released,
            signatures=judged.signatures,
            passed_over=over,
            seen=seen,
        )
        if again:
            revision = replace(revision, counts=None)
        result = await self.submit(revision, planned.commands, self.fence)
        if isinstance(result, Submitted):
            self._log_applied(judged, len(planned.commands))
        return result

    async def refused(self, judged: Judged, findings: tuple[Finding, ...], seen: RevisionSeen) -> None:
        info, first = judged.info, next(iter(errors(findings)), findings[0])
        if info.commit == judged.base:  # the commit is good as it was applied; it is the new binding that is not
            attempted, why = f"bind the source {self.source.source_id} anew", f"{first.place}: {first.message}"
            raise Refusal(attempted, why, fix=first.fix, code=first.code)
        revision = RevisionRefused(
            command_id=refused_command_id(self.source.source_id, judged.base, info.commit, findings),
            cause=revision_cause(self.source, info),
            source_id=self.source.source_id,
            commit=info.commit,
            base=judged.base,
            author=info.author,
            subject=info.subject,
            findings=findings,
            counts=judged.plan.counts(len(judged.held)) if judged.plan else None,
            seen=seen,
        )
        await self.refuse(revision, self.fence)
        why, count = f"{first.place}: {first.message}", len(findings)
        _log.warning("commit refused", source=self.source.source_id, commit=info.commit, findings=count, first=why)

    def _log_applied(self, judged: Judged, commands: int) -> None:
        source, commit = self.source.source_id, judged.info.commit
        _log.info("commit applied", source=source, commit=commit, commands=commands, held=len(judged.held))
        for each in judged.held:
            why = f"{each.findings[0].place}: {each.findings[0].message}"
            _log.warning("applied except", source=source, commit=commit, app=each.short, why=why)
