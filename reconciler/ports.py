"""What the shells need from the world, as Protocols. Implemented in reconciler.store, .git, .vault and
.forges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from reconciler.core.commands import Append, AppendResult
from reconciler.core.event_filter import EventFilter
from reconciler.core.events import Event
from reconciler.core.preview.document import RenderedPlan
from reconciler.core.pulls import Comment, CommitStatus, OpenPullRequests

__all__ = [
    "CertificateRecords",
    "Doc",
    "EventFilter",
    "EventLog",
    "Forge",
    "GivenCertificate",
    "Head",
    "PlanFor",
    "ViewSnapshot",
    "Views",
]

Doc = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log. `log_id` names this log; it changes when a log is restored from a backup."""

    log_id: str
    last_event_id: int


@dataclass(frozen=True, slots=True)
class GivenCertificate:
    """The newest one of a machine. `issuer`, `root`: the names of who made it."""

    identity_id: str
    generation: int
    issuer: str
    root: str
    certified_at: datetime
    not_after: datetime


class CertificateRecords(Protocol):
    """What all controllers know of the certificates that any of them gave."""

    async def note(self, given: Iterable[GivenCertificate]) -> None: ...

    async def of(self, identity_ids: Iterable[str]) -> Mapping[str, GivenCertificate]: ...

    async def oldest(self, limit: int) -> list[GivenCertificate]: ...


class EventLog(Protocol):
    async def append(self, batch: Sequence[Append], *, atomic: bool = True) -> list[AppendResult]:
        """One transaction for the whole batch, a result per command in its order. With `atomic`, one conflict means
        that nothing of the batch was appended (the others' results are then not meaningful). An outcome that was lost
        with the connection is looked up by command id before this returns or raises `Transient`."""
        ...

    async def read(
        self, after: int, *, limit: int, only: EventFilter | None = None, upto: int | None = None
    ) -> list[Event]:
        """Events with event_id > after, ascending."""
        ...

    async def head(self) -> Head: ...

    async def wait_past(self, event_id: int, timeout_s: float) -> int:
        """Returns the last event_id as soon as it is > event_id, or after the time-out whatever it is then."""
        ...


@dataclass(frozen=True, slots=True)
class ViewSnapshot:
    """Rows of several views read in one REPEATABLE READ transaction. `event_id`: the lowest of their checkpoints."""

    event_id: int
    log_id: str
    rows: Mapping[str, Mapping[str, Doc]]  # view -> key -> document


class Views(Protocol):
    async def get(self, view: str, key: str) -> Doc | None: ...

    async def snapshot(self, views: Iterable[str]) -> ViewSnapshot: ...

    async def wait_for(self, event_id: int, views: Iterable[str], timeout_s: float) -> None:
        """Read-your-writes: returns when the checkpoints of `views` are >= event_id, else raises `Transient` with code
        "projection_timeout" that names the view, its checkpoint and the event waited for."""
        ...


class Forge(Protocol):
    """One repository at GitHub, GitLab, Gitea or Forgejo. Every call raises `Refusal` (asking again does not help: the
    token, the scopes, the address, what was sent) or `Transient`; while the forge wants no requests all calls raise
    `Transient` with code "forge_rate_limited" without asking it, for `blocked_s()` more seconds."""

    comment_chars_max: int

    def blocked_s(self) -> float: ...

    def head_ref(self, number: int) -> str:
        """The ref in the base repository that names a pull request's head, also of a fork's."""
        ...

    async def open_pull_requests(self, branch: str) -> OpenPullRequests:
        """Those that would be merged into `branch`, the oldest first."""
        ...

    async def find_comment(self, number: int, prefix: str) -> Comment | None:
        """The oldest comment of our own user that begins with `prefix`. Nobody else's counts."""
        ...

    async def put_comment(self, number: int, known: Comment | None, body: str) -> Comment:
        """Writes a comment, or changes the known one; sends nothing when that has the same text already."""
        ...

    async def put_status(self, commit: str, status: CommitStatus, *, ref: str = "") -> bool:
        """False: the commit had exactly this status already, and nothing was sent. `ref`: a name of the commit, for
        one that is on no branch."""
        ...


class PlanFor(Protocol):
    """What a pull request would do. `base_commit`: what is applied now, "" for nothing. `head_commit`: its merge with
    the base branch. Decrypts nothing."""

    async def __call__(self, base_commit: str, head_commit: str) -> RenderedPlan: ...
