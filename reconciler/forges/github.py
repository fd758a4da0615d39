"""GitHub and GitHub Enterprise Server: REST API 2022-11-28. Opened by `reconciler.forges.opening`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from reconciler.forges import limits
from reconciler.forges.rest import GitHubLike

API_VERSION = "2022-11-28"


def credentials(token: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": API_VERSION,
    }


class GitHub(GitHubLike):
    comment_chars_max = 65_536
    description_chars_max = 140
    states: ClassVar[Mapping[str, str]] = {
        "pending": "pending",
        "running": "pending",
        "success": "success",
        "failure": "failure",
        "superseded": "error",
    }
    """Of GitHub's four, "error" is the one that says that there is no verdict about the commit."""
    status_fields = ("context", "state")

    def _pull_pages(self, branch: str) -> AsyncIterator[tuple[list[Any], bool]]:
        return self._http.pages(
            f"{self._base}/pulls",
            size=limits.PAGE_ITEMS,
            pages_max=limits.PULL_PAGES_MAX,
            state="open",
            base=branch,
            sort="created",
            direction="asc",
        )

    def _comment_pages(self, number: int) -> AsyncIterator[tuple[list[Any], bool]]:
        path = f"{self._base}/issues/{number}/comments"
        return self._http.pages(path, size=limits.PAGE_ITEMS, pages_max=limits.COMMENT_PAGES_MAX)

    def _status_pages(self, commit: str, context: str) -> AsyncIterator[tuple[list[Any], bool]]:
        path = f"{self._base}/commits/{commit}/statuses"
        return self._http.pages(path, size=limits.PAGE_ITEMS, pages_max=limits.STATUS_PAGES_MAX)
