"""Gitea and Forgejo: API v1. Opened by `reconciler.forges.opening`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from reconciler.forges import limits
from reconciler.forges.http import list_of
from reconciler.forges.rest import GitHubLike


def credentials(token: str) -> dict[str, str]:
    return {"Authorization": f"token {token}"}


class Gitea(GitHubLike):
    comment_chars_max = 65_536
    """Gitea itself has no bound; its database's text columns may have this one."""
    description_chars_max = 255
    states: ClassVar[Mapping[str, str]] = {
        "pending": "pending",
        "running": "pending",
        "success": "success",
        "failure": "failure",
        "superseded": "warning",
    }
    status_fields = ("context", "status")

    def _pull_pages(self, branch: str) -> AsyncIterator[tuple[list[Any], bool]]:
        """Of all branches: older ones cannot ask for one alone."""
        return self._http.pages(
            f"{self._base}/pulls",
            size=limits.GITEA_PAGE_ITEMS,
            pages_max=limits.PULL_PAGES_MAX * 2,
            size_name="limit",
            state="open",
            sort="oldest",
        )

    async def _comment_pages(self, number: int) -> AsyncIterator[tuple[list[Any], bool]]:
        """This list has no pages."""
        path = f"{self._base}/issues/{number}/comments"
        yield list_of(await self._http.get(path), path), False

    def _status_pages(self, commit: str, context: str) -> AsyncIterator[tuple[list[Any], bool]]:
        return self._http.pages(
            f"{self._base}/commits/{commit}/statuses",
            size=limits.GITEA_PAGE_ITEMS,
            pages_max=limits.STATUS_PAGES_MAX,
            size_name="limit",
            sort="recentupdate",
        )
