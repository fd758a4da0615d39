"""A source and what becomes of each of its commits.

`reconciler.tasks.git_sync` makes these and hands them to `reconciler.handlers`, which turns a revision and its commands
into one atomic append: revision.applied with the resources' events, or revision.refused alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol

from kit.canonical import digest
from kit.codec import to_json
from reconciler.core.commands import Fence, GitCommand
from reconciler.core.events import Cause
from reconciler.core.findings import Finding
from reconciler.core.model import ResourceId

ChangeVerb = Literal["create", "update", "move", "mark", "delete", "retain"]
"""mark: only what a manifest says about its own removal changes."""
OnError = Literal["hold-app", "refuse-commit"]
HELD_FINDINGS_MAX = 10
"""Of each app that is held back."""
SIGNERS_MAX = 20


@dataclass(frozen=True, slots=True)
class Rules:
    """The operator's, for one source; nothing in a repository changes them. `on_error`: what an error that is one app's
    own does. A commit that deletes more than `deletions_max` resources, and more than `deletions_share` of all, has to
    say how many."""

    on_error: OnError = "hold-app"
    deletions_max: int = 10
    deletions_share: float = 0.20


DEFAULT_RULES = Rules()


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
    rules: Rules = DEFAULT_RULES
    takes_over: tuple[str, ...] = ()

    @property
    def binding(self) -> dict[str, str]:
        """Which of a commit's manifests count, and for whom. With another one the same commit means something else."""
        return {"org": self.org, "project": self.project, "path": self.path}


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
class Counts:
    """What a plan does, in numbers. `resources`: how many the commit declares. `held`: apps that are held back."""

    resources: int
    created: int
    updated: int
    moved: int
    removed: int
    retained: int
    held: int = 0

    def document(self) -> dict[str, int]:
        """As in the row of the view `revisions`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PassedOver:
    """The commits that the branch went through between `base` and the head, which nobody looked at one by one: how
    many, and the newest of them."""

    count: int = 0
    commits: tuple[CommitInfo, ...] = ()


NOTHING_PASSED_OVER = PassedOver()


@dataclass(frozen=True, slots=True)
class RevisionSeen:
    """The branch names this commit now. `commits`: how far it is ahead of `base`, itself included, at most 10,000.
    `pull_request`: what its message claims (`core.pull_claims`), "" for nothing."""

    cause: Cause
    source_id: str
    commit: str
    base: str
    author: str
    subject: str
    commits: int
    pull_request: str = ""

    @property
    def revision_id(self) -> str:
        return f"{self.source_id}@{self.commit}"


@dataclass(frozen=True, slots=True)
class HeldApp:
    """An app (text of its `ResourceId`) that stays as it is live, because of errors that are its own. "" stands for
    files that cannot be read and were never known to declare anything. `files`: those that cannot be read."""

    app: str
    findings: tuple[Finding, ...]
    files: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        return ResourceId.parse(self.app).short if self.app else "what cannot be read"


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed a commit of a revision."""

    commit: str
    signer: str
    kind: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RevisionApplied:
    """All of a commit, planned and guarded, except for apps that are held back. `base`: the commit that was applied
    before, "" for none; the commit itself when the source is bound anew. `findings`: warnings only. `released`: apps
    that the base held back and this commit does not. `signers`: of its commits, newest first, at most SIGNERS_MAX.
    `counts`: None when no plan was told of. `takes_over`: as the source has it."""

    command_id: str
    cause: Cause
    source_id: str
    commit: str
    base: str
    author: str
    subject: str
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()
    held: tuple[HeldApp, ...] = ()
    released: tuple[str, ...] = ()
    signers: tuple[Signature, ...] = ()
    signers_omitted: int = 0
    counts: Counts | None = None
    passed_over: PassedOver = NOTHING_PASSED_OVER
    seen: RevisionSeen | None = None
    takes_over: tuple[str, ...] = ()

    @property
    def revision_id(self) -> str:
        return f"{self.source_id}@{self.commit}"


@dataclass(frozen=True, slots=True)
class RevisionRefused:
    """A commit that changes nothing, and why. The same refusal for the same reasons has the same command id, so that
    it is recorded once however often the commit is looked at. `counts`: None when there was no plan."""

    command_id: str
    cause: Cause
    source_id: str
    commit: str
    base: str
    author: str
    subject: str
    findings: tuple[Finding, ...]
    counts: Counts | None = None
    seen: RevisionSeen | None = None

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
    source holds, say). `blamed`: app (text of its id) -> its findings, when every finding is some app's own; the caller
    may hold those apps back and submit the rest. Else it records the refusal with `refuse_revision`."""

    findings: tuple[Finding, ...]
    blamed: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)


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
