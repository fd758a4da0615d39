"""GitLab: API v4. Opened by `reconciler.forges.opening`. Its pull requests are merge requests, its comments notes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from kit.errors import Refusal
from reconciler.core.pulls import Comment, CommitStatus, PullRequest
from reconciler.forges import limits
from reconciler.forges.rest import Document, RestForge, commit_id


def credentials(token: str) -> dict[str, str]:
    return {"PRIVATE-TOKEN": token}


class GitLab(RestForge):
    comment_chars_max = 1_000_000
    description_chars_max = 255
    states: ClassVar[Mapping[str, str]] = {
        "pending": "pending",
        "running": "running",
        "success": "success",
        "failure": "failed",
        "superseded": "canceled",
    }
    status_fields = ("name", "status")

    @property
    def _base(self) -> str:
        return f"/projects/{quote(self._repository, safe='')}"

    def head_ref(self, number: int) -> str:
        return f"refs/merge-requests/{number}/head"

    def _pull_pages(self, branch: str) -> AsyncIterator[tuple[list[Any], bool]]:
        return self._http.pages(
            f"{self._base}/merge_requests",
            size=limits.PAGE_ITEMS,
            pages_max=limits.PULL_PAGES_MAX,
            state="opened",
            target_branch=branch,
            order_by="created_at",
            sort="asc",
        )

    def _pull(self, document: Document) -> PullRequest | None:
        if document["sha"] is None:
            return None
        return PullRequest(
            number=int(document["iid"]),
            head_commit=commit_id(document["sha"]),
            base_branch=str(document["target_branch"]),
            fork=document["source_project_id"] != document["target_project_id"],
            author=str((document.get("author") or {}).get("username", "")),
            url=str(document.get("web_url") or ""),
        )

    def _comment_pages(self, number: int) -> AsyncIterator[tuple[list[Any], bool]]:
        return self._http.pages(
            f"{self._base}/merge_requests/{number}/notes",
            size=limits.PAGE_ITEMS,
            pages_max=limits.COMMENT_PAGES_MAX,
            order_by="created_at",
            sort="asc",
        )

    def _comment(self, document: Document) -> Comment:
        author = str((document.get("author") or {}).get("username", ""))
        return Comment(str(int(document["id"])), author, str(document.get("body") or ""))

    def _comment_paths(self, number: int, comment_id: str) -> tuple[str, str, str]:
        notes = f"{self._base}/merge_requests/{number}/notes"
        return notes, "PUT", f"{notes}/{comment_id}"

    def _status_pages(self, commit: str, context: str) -> AsyncIterator[tuple[list[Any], bool]]:
        return self._http.pages(
            f"{self._base}/repository/commits/{commit}/statuses",
            size=limits.PAGE_ITEMS,
            pages_max=limits.STATUS_PAGES_MAX,
            name=context,
        )

    async def _post_status(self, commit: str, status: CommitStatus, ref: str) -> None:
        """`ref`: GitLab asks for one when no branch has the commit, which is so for a fork's. It answers 400 to a
        change from pending to pending, and the same for running; what would change is only the description, and is not
        worth an error."""
        document = {
            "state": self.states[status.state],
            "name": status.context,
            "description": status.description,
            "target_url": status.url,
            "ref": ref,
        }
        document = {key: value for key, value in document.items() if value}
        try:
            await self._http.send("POST", f"{self._base}/statuses/{commit}", document, repeatable=True)
        except Refusal as error:
            if not (error.code == "forge_400" and status.state in ("pending", "running") and "transition" in error.why):
                raise

    def _user_name(self, document: Document) -> str:
        return str(document["username"])
