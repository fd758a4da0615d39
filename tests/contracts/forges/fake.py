"""A forge in memory, for tests of what stands on `reconciler.ports.Forge`. Passes the suite of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kit.errors import TrueupError
from reconciler.core.pulls import Comment, CommitStatus, OpenPullRequests, PullRequest

BOT = "trueup-bot"


@dataclass
class FakeForge:
    comment_chars_max: int = 65_536
    pulls: dict[int, PullRequest] = field(default_factory=dict)
    comments: dict[int, list[Comment]] = field(default_factory=dict)
    statuses: dict[str, list[CommitStatus]] = field(default_factory=dict)
    """All that were ever sent, the newest last."""
    sent: list[str] = field(default_factory=list)
    fail: Callable[[str], TrueupError | None] = lambda what: None
    blocked: float = 0.0
    _ids: int = 0

    def blocked_s(self) -> float:
        return self.blocked

    def head_ref(self, number: int) -> str:
        return f"refs/pull/{number}/head"

    async def open_pull_requests(self, branch: str) -> OpenPullRequests:
        self._meet("list")
        return OpenPullRequests(tuple(pull for _, pull in sorted(self.pulls.items()) if pull.base_branch == branch))

    async def find_comment(self, number: int, prefix: str) -> Comment | None:
        self._meet(f"find {number}")
        found = self.comments.get(number, [])
        return next((each for each in found if each.author == BOT and each.body.startswith(prefix)), None)

    async def put_comment(self, number: int, known: Comment | None, body: str) -> Comment:
        self._meet(f"comment {number}")
        if known is not None and known.body == body:
            return known
        assert len(body) <= self.comment_chars_max
        listed = self.comments.setdefault(number, [])
        self.sent.append(f"{'edit' if known else 'create'} {number}")
        if known is None:
            self._ids += 1
            listed.append(Comment(str(self._ids), BOT, body, f"https://forge.test/c/{self._ids}"))
            return listed[-1]
        [index] = [index for index, each in enumerate(listed) if each.comment_id == known.comment_id]
        listed[index] = replace(listed[index], body=body)
        return listed[index]

    async def put_status(self, commit: str, status: CommitStatus, *, ref: str = "") -> bool:
        self._meet(f"status {commit}")
        now = self.status_of(commit, status.context)
        if now == status:
            return False
        self.sent.append(f"{status.context} {commit} {status.state}")
        self.statuses.setdefault(commit, []).append(status)
        return True

    def status_of(self, commit: str, context: str) -> CommitStatus | None:
        found = [each for each in self.statuses.get(commit, []) if each.context == context]
        return found[-1] if found else None

    def _meet(self, what: str) -> None:
        if (error := self.fail(what)) is not None:
            raise error
