"""Pull requests as trueup knows them, whichever forge they come from. GitLab calls them merge requests.

Made by `reconciler.forges`, used by `reconciler.tasks.pull_requests` and `commit_statuses`. Everything in a pull
request was written by somebody who may not be trusted; nothing of it decides anything but what is planned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StatusState = Literal["pending", "running", "success", "failure", "superseded"]
"""`superseded`: a newer commit took its place before it was known whether it would succeed."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """`fork`: its head lies in another repository than its base, so whoever wrote it may have no rights here."""

    number: int
    head_commit: str
    base_branch: str
    fork: bool
    author: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class OpenPullRequests:
    """`complete` is False when there are more than the bound."""

    pull_requests: tuple[PullRequest, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Comment:
    """`comment_id` as the forge writes it. `url`: where people read it, "" when the forge does not say."""

    comment_id: str
    author: str
    body: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """One line beside a commit. `context` tells the lines of several programs apart; a newer one of the same context
    takes the place of the older. `url`: what the line links to, "" for nothing."""

    context: str
    state: StatusState
    description: str
    url: str = ""
