"""A source and what becomes of each of its commits.

`reconciler.tasks.git_sync` makes these and hands them to `reconciler.handlers`, which turns a revision and its commands
into one atomic append: revision.applied with the resources' events, or revision.refused alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from kit.canonical import digest
from kit.codec import to_json
from reconciler.core.commands import Fence, GitCommand
from reconciler.core.events import Cause
from reconciler.core.findings import Finding
from reconciler.core.model import ResourceId

ChangeVerb = Literal["create", "update", "move", "delete", "retain"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where desired state comes from: `path` inside `branch` of the repository at `url`, for one org and project.

    `path`: the folder that holds the manifests, "" for the whole tree. `accepted_rewrite`: a commit that an operator
    lets replace the history that was applied before; "" for none.
    """

    source_id: str
    org: str
    project: str
    url: str
    branch: str = "main"
    path: str = ""
    accepted_rewrite: str = ""


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """`author`: NAME <EMAIL>. `subject`: the first line of the message, at most 200 characters."""

    commit: str
    author: str
    subject: str


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One line of a plan, for people and for revision.applied."""

    verb: ChangeVerb
    resource_id: ResourceId
    path: str
    line: int

    def document(self) -> dict[str, str | int]:
        """As in the payload of revision.applied: the identity in its text form."""
        return {"verb": self.verb, "resource_id": str(self.resource_id), "path": self.path, "line": self.line}


@dataclass(frozen=True, slots=True)
class RevisionApplied:
    """All of a commit, planned and guarded. `base`: the commit that was applied before, "" for none.
    `findings`: warnings only."""

    command_id: str
    cause: Cause
    source_id: str
    commit: str
    base: str
    author: str
    subject: str
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def revision_id(self) -> str:
        return f"{self.source_id}@{self.commit}"


@dataclass(frozen=True, slots=True)
class RevisionRefused:
    """A commit that changes nothing, and why. The same refusal for the same reasons has the same command id, so that
    it is recorded once however often the commit is looked at."""

    command_id: str
    cause: Cause
    source_id: str
    commit: str
    base: str
    author: str
    subject: str
    findings: tuple[Finding, ...]

    @property
    def revision_id(self) -> str:
        return f"{self.source_id}@{self.commit}"


@dataclass(frozen=True, slots=True)
class Submitted:
    """The batch is in the log, up to `last_event_id`. `duplicate`: it was there already."""

    last_event_id: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was appended: a claim or an invariant of the live system stands against it (a hostname that another
    source holds, say). The caller records the refusal with `refuse_revision`."""

    findings: tuple[Finding, ...]


class SubmitRevision(Protocol):
    """`reconciler.handlers`: one atomic batch of everything, the revision's own event first. Raises `Transient` when
    the outcome could not be had now; the same call may then be made again."""

    async def __call__(
        self, revision: RevisionApplied, commands: Sequence[GitCommand], fence: Fence | None = None
    ) -> Submitted | Refused: ...


class RefuseRevision(Protocol):
    """`reconciler.handlers`: appends revision.refused. The same refusal twice is one event."""

    async def __call__(self, revision: RevisionRefused, fence: Fence | None = None) -> Submitted: ...


def revision_cause(source: Source, info: CommitInfo, *, path: str = "", line: int = 0) -> Cause:
    """Why a Git-made event exists: the commit's author asked for it, at that path and line."""
    return Cause(
        actor_type="user",
        actor_id=info.author,
        org_id=source.org,
        source_id=source.source_id,
        commit=info.commit,
        path=path,
        line=line,
        correlation_id=f"{source.source_id}@{info.commit}",
    )


def applied_command_id(source_id: str, base: str, commit: str) -> str:
    """The base is part of it: the same commit applied onto another base (after a rewrite) is another act."""
    return "revision-applied-" + digest([source_id, base, commit], length=32)


def refused_command_id(source_id: str, base: str, commit: str, findings: Sequence[Finding]) -> str:
    return "revision-refused-" + digest([source_id, base, commit, to_json(findings)], length=32)
