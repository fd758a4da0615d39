"""The history of a branch, as its first parents tell it: what the branch named, one commit after the other.

Called by `objects.ObjectStore`. A merge is one commit here, with the number of those that it brought. Whatever is
asked, at most SCAN_MAX commits are looked at; `next` is where to go on.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pygit2
from pygit2.enums import SortMode

from kit.plain_text import clean
from reconciler.core.pull_claims import pull_request_of

SCAN_MAX = 5_000
WAY_MAX = 20_000
"""Commits of the branch that are looked at to find how another one came into it."""
BROUGHT_MAX = 100
"""Commits that a merge brought, and that are counted: more are as many."""
SUBJECT_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class PastCommit:
    """`at`: when it was committed, RFC 3339 in UTC, as its committer says. `pull_request`: what its message claims.
    `brought`: how many commits came with it besides its first parent's."""

    commit: str
    parent: str
    author: str
    at: str
    subject: str
    pull_request: str
    brought: int


@dataclass(frozen=True, slots=True)
class PastPage:
    """Newest first. `line`: the ids of all that were looked at. `next`: the commit to go on from, "" at the end."""

    commits: tuple[PastCommit, ...]
    line: tuple[str, ...]
    next: str


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the branch has gone through from a base to its head, without both: `count`, at most what was asked for, and
    the newest of it."""

    count: int
    newest: tuple[PastCommit, ...]


def page(repository: pygit2.Repository, start: str, *, stop: str, path: str, count_max: int) -> PastPage:
    """From `start` on, it included, to before `stop` ("" for the beginning). `path`: only commits that changed it."""
    found: list[PastCommit] = []
    line: list[str] = []
    for commit in _line(repository, start):
        if str(commit.id) == stop:
            break
        if len(found) == count_max or len(line) == SCAN_MAX:
            return PastPage(tuple(found), tuple(line), str(commit.id))
        line.append(str(commit.id))
        if not path or _changed(repository, commit, path):
            found.append(_past(repository, commit))
    return PastPage(tuple(found), tuple(line), "")


def ahead(repository: pygit2.Repository, base: str, head: str, *, count_max: int, told_max: int) -> Ahead:
    walker = repository.walk(head, SortMode.NONE)
    walker.simplify_first_parent()
    walker.hide(base)
    between = itertools.islice(walker, 1, count_max + 1)  # the head itself is not among them
    newest = [_past(repository, commit) for commit in itertools.islice(between, told_max)]
    return Ahead(len(newest) + sum(1 for _ in between), tuple(newest))


def way_to(repository: pygit2.Repository, head: str, commit: str) -> tuple[str, ...]:
    """The branch from its head down to `commit`, or to the merge that brought it, both included. Empty when it never
    came into the branch, or longer ago than WAY_MAX."""
    line = [str(each.id) for each in itertools.islice(_line(repository, head), WAY_MAX)]
    if commit in line:
        return tuple(line[: line.index(commit) + 1])
    with_it = bisect.bisect_left(line, True, key=lambda each: not repository.descendant_of(each, commit))
    return tuple(line[:with_it]) if with_it < len(line) else ()


def _line(repository: pygit2.Repository, start: str) -> Iterator[pygit2.Commit]:
    commit = repository[start].peel(pygit2.Commit)
    while True:
        yield commit
        if not commit.parent_ids:
            return
        commit = repository[commit.parent_ids[0]].peel(pygit2.Commit)


def _past(repository: pygit2.Repository, commit: pygit2.Commit) -> PastCommit:
    message = commit.raw_message.decode("utf-8", "replace")
    author = f"{_text(commit.author.raw_name)} <{_text(commit.author.raw_email)}>"
    subject = next(iter(message.strip().splitlines()), "")[:SUBJECT_CHARS_MAX]
    parent = str(commit.parent_ids[0]) if commit.parent_ids else ""
    at = _at(commit.commit_time)
    return PastCommit(
        str(commit.id), parent, author, at, subject, pull_request_of(message), _brought(repository, commit)
    )


def _brought(repository: pygit2.Repository, commit: pygit2.Commit) -> int:
    if len(commit.parent_ids) < 2:
        return 0
    walker = repository.walk(commit.id, SortMode.NONE)
    walker.hide(commit.parent_ids[0])
    return sum(1 for _ in itertools.islice(walker, 1, BROUGHT_MAX + 1))


def _changed(repository: pygit2.Repository, commit: pygit2.Commit, path: str) -> bool:
    before = repository[commit.parent_ids[0]].peel(pygit2.Commit) if commit.parent_ids else None
    return _entry(commit, path) != (_entry(before, path) if before is not None else None)


def _entry(commit: pygit2.Commit, path: str) -> str | None:
    try:
        return str(commit.tree[path].id)
    except KeyError:
        return None


def _at(seconds: int) -> str:
    """A committer may write any number."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""


def _text(raw: bytes) -> str:
    return clean(raw.decode("utf-8", "replace")[:200])
