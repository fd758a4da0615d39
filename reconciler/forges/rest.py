"""What all providers have in common: our own user, the one comment, the status that is not sent twice.

A provider (`github`, `gitlab`, `gitea`) says in `_...` methods where things lie in its API and what its documents look
like; `reconciler.ports.Forge` is made of those here. tests/contracts/test_forges.py holds all of them to one behaviour.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from kit.errors import Refusal, Transient
from kit.files import read_private
from reconciler.core.pulls import Comment, CommitStatus, OpenPullRequests, PullRequest
from reconciler.forges import limits
from reconciler.forges.http import ForgeHttp

Document = Mapping[str, Any]
Read = TypeVar("Read")


class Token:
    """A token's file. Read for each request: a renewed token needs no restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        attempted = f"read the forge's token {self._path}"
        try:
            text = read_private(self._path).decode("ascii").strip()
        except FileNotFoundError:
            raise Refusal(attempted, "there is no such file", fix="put the token there", code="key_missing") from None
        except UnicodeDecodeError:
            text = ""
        if not text or not text.isprintable() or " " in text:
            raise Refusal(
                attempted, "it does not hold one token", fix="write the token and nothing else", code="key_damaged"
            )
        return text


class RestForge(ABC):
    """`repository`: as the API's paths want it. `user`: our own, "" to ask the forge once per token."""

    comment_chars_max: int
    description_chars_max: ClassVar[int]
    states: ClassVar[Mapping[str, str]]
    """Our word for a status to the forge's."""
    status_fields: ClassVar[tuple[str, str]]
    """What a status's document calls its context and its state."""

    def __init__(self, http: ForgeHttp, token: Token, repository: str, user: str = "") -> None:
        self._http = http
        self._token = token
        self._repository = repository
        self._user = user
        self._asked: tuple[str, str] = ("", "")

    async def close(self) -> None:
        await self._http.close()

    def blocked_s(self) -> float:
        return self._http.blocked_s()

    @abstractmethod
    def head_ref(self, number: int) -> str: ...

    async def open_pull_requests(self, branch: str) -> OpenPullRequests:
        found: dict[int, PullRequest] = {}
        complete = True
        async for page, more in self._pull_pages(branch):
            complete = not more
            for document in page:
                pull = self._understood(document, self._pull)
                if pull is not None and pull.base_branch == branch:
                    found[pull.number] = pull
        return OpenPullRequests(tuple(found[number] for number in sorted(found)), complete)

    async def find_comment(self, number: int, prefix: str) -> Comment | None:
        user = await self._own_user()
        async for page, _ in self._comment_pages(number):
            for document in page:
                comment = self._understood(document, self._comment)
                if comment.author == user and comment.body.startswith(prefix):
                    return comment
        return None

    async def put_comment(self, number: int, known: Comment | None, body: str) -> Comment:
        if known is not None and known.body.rstrip() == body.rstrip():
            return known
        path, method, edit_path = self._comment_paths(number, known.comment_id if known else "")
        if known is None:
            answer = await self._http.send("POST", path, {"body": body}, repeatable=False)
        else:
            answer = await self._http.send(method, edit_path, {"body": body}, repeatable=True)
        return self._understood(answer.document, self._comment)

    async def put_status(self, commit: str, status: CommitStatus, *, ref: str = "") -> bool:
        state = self.states[status.state]
        description = shortened(status.description, self.description_chars_max)
        url = status.url if len(status.url) <= limits.URL_CHARS_MAX else ""
        if await self._present_status(commit, status.context) == (state, description, url):
            return False
        await self._post_status(commit, CommitStatus(status.context, status.state, description, url), ref)
        return True

    async def _own_user(self) -> str:
        token = self._token.read()
        if self._user or self._asked[0] == token:
            return self._user or self._asked[1]
        answer = await self._http.get("/user")
        self._asked = (token, self._understood(answer.document, self._user_name))
        return self._asked[1]

    async def _present_status(self, commit: str, context: str) -> tuple[str, str, str] | None:
        """State, description and link of the newest status of that context."""
        async for page, _ in self._status_pages(commit, context):
            for document in page:
                name, state, description, link = self._understood(document, self._status)
                if name == context:
                    return state, description, link
        return None

    def _status(self, document: Document) -> tuple[str, str, str, str]:
        """Context, state, description, link."""
        context, state = (str(document[field] or "") for field in self.status_fields)
        return context, state, str(document.get("description") or ""), str(document.get("target_url") or "")

    def _understood(self, document: Any, read: Callable[[Any], Read]) -> Read:
        """What a forge sends is a stranger's too: an odd document is said to be one, and breaks nothing."""
        try:
            return read(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"the forge's answer is not understood: {type(error).__name__} {str(error)[:80]}"
            raise Transient(f"read an answer about {self._repository}", why, code="forge_answer_invalid") from error

    # --- what differs ---

    @abstractmethod
    def _pull_pages(self, branch: str) -> AsyncIterator[tuple[list[Any], bool]]: ...

    @abstractmethod
    def _pull(self, document: Document) -> PullRequest | None:
        """None for one without a head."""

    @abstractmethod
    def _comment_pages(self, number: int) -> AsyncIterator[tuple[list[Any], bool]]:
        """The oldest first."""

    @abstractmethod
    def _comment(self, document: Document) -> Comment: ...

    @abstractmethod
    def _comment_paths(self, number: int, comment_id: str) -> tuple[str, str, str]:
        """Where a comment is posted; the method and the path that change one."""

    @abstractmethod
    def _status_pages(self, commit: str, context: str) -> AsyncIterator[tuple[list[Any], bool]]:
        """The newest of each context first."""

    @abstractmethod
    async def _post_status(self, commit: str, status: CommitStatus, ref: str) -> None: ...

    def _user_name(self, document: Document) -> str:
        return str(document["login"])


def shortened(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 3].rstrip() + "..."


class GitHubLike(RestForge):
    """Gitea and Forgejo copied the shape of GitHub's API: paths and documents are the same but for a few names."""

    def head_ref(self, number: int) -> str:
        return f"refs/pull/{number}/head"

    @property
    def _base(self) -> str:
        return f"/repos/{self._repository}"

    def _pull(self, document: Document) -> PullRequest:
        head, base = document["head"], document["base"]
        head_repository = (head.get("repo") or {}).get("full_name", "")
        return PullRequest(
            number=int(document["number"]),
            head_commit=commit_id(head["sha"]),
            base_branch=str(base["ref"]),
            fork=head_repository != base["repo"]["full_name"],
            author=str((document.get("user") or {}).get("login", "")),
            url=str(document.get("html_url") or ""),
        )

    def _comment(self, document: Document) -> Comment:
        author = str((document.get("user") or {}).get("login", ""))
        return Comment(
            str(int(document["id"])), author, str(document.get("body") or ""), str(document.get("html_url") or "")
        )

    def _comment_paths(self, number: int, comment_id: str) -> tuple[str, str, str]:
        return f"{self._base}/issues/{number}/comments", "PATCH", f"{self._base}/issues/comments/{comment_id}"

    async def _post_status(self, commit: str, status: CommitStatus, ref: str) -> None:
        document = {
            "state": self.states[status.state],
            "context": status.context,
            "description": status.description,
            "target_url": status.url,
        }
        document = {key: value for key, value in document.items() if value}
        await self._http.send("POST", f"{self._base}/statuses/{commit}", document, repeatable=True)


def commit_id(value: Any) -> str:
    """A whole object id and nothing else: it becomes part of paths and is compared with what Git says."""
    if not isinstance(value, str) or len(value) not in (40, 64) or set(value) - set("0123456789abcdef"):
        raise ValueError("no commit id")
    return value
