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
PARTS_SHOWN_MAX = 20
SUBJECT_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Part:
    """A commit that a merge brought."""

    commit: str
    author: str
    subject: str


@dataclass(frozen=True, slots=True)
class Between:
    """A commit between two heads. `merge`: what brought it into the branch, "" for one of the branch's own."""

    commit: str
    merge: str


@dataclass(frozen=True, slots=True)
class PastCommit:
    """`at`: when it was committed, RFC 3339 in UTC, as its committer says. `pull_request`: what its message claims.
    `brought`: how many commits came with it besides its first parent's; `parts`: the newest of them."""

    commit: str
    parent: str
    author: str
    at: str
    subject: str
    pull_request: str
    brought: int
    parts: tuple[Part, ...] = ()


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
    between = itertools.islice(_own(repository, base, head), 1, count_max + 1)  # the head itself is not among them
    newest = [_past(repository, commit) for commit in itertools.islice(between, told_max)]
    return Ahead(len(newest) + sum(1 for _ in between), tuple(newest))


def between(repository: pygit2.Repository, base: str, head: str, *, count_max: int) -> Iterator[Between]:
    """Every commit that the head has and the base has not, newest first along the branch, the head itself left out."""
    own = _own(repository, base, head)
    yield from itertools.islice((each for commit in own for each in _with_parts(repository, commit)), 1, count_max + 1)


def _own(repository: pygit2.Repository, base: str, head: str) -> Iterator[pygit2.Commit]:
    """The branch from its head down to the base, without that."""
    walker = repository.walk(head, SortMode.NONE)
    walker.simplify_first_parent()
    walker.hide(base)
    return walker


def _with_parts(repository: pygit2.Repository, own: pygit2.Commit) -> Iterator[Between]:
    yield Between(str(own.id), "")
    for part in _brought(repository, own):
        yield Between(str(part.id), str(own.id))


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
    parent = str(commit.parent_ids[0]) if commit.parent_ids else ""
    brought = list(itertools.islice(_brought(repository, commit), BROUGHT_MAX))
    parts = tuple(Part(str(each.id), _author(each), _subject(each)) for each in brought[:PARTS_SHOWN_MAX])
    return PastCommit(
        commit=str(commit.id),
        parent=parent,
        author=_author(commit),
        at=_at(commit.commit_time),
        subject=_subject(commit),
        pull_request=pull_request_of(_message(commit)),
        brought=len(brought),
        parts=parts,
    )


def _brought(repository: pygit2.Repository, commit: pygit2.Commit) -> Iterator[pygit2.Commit]:
    """What a merge has besides itself and its first parent, newest first."""
    if len(commit.parent_ids) > 1:
        walker = repository.walk(commit.id, SortMode.TOPOLOGICAL | SortMode.TIME)
        walker.hide(commit.parent_ids[0])
        yield from (each for each in walker if each.id != commit.id)


def _message(commit: pygit2.Commit) -> str:
    return commit.raw_message.decode("utf-8", "replace")


def _author(commit: pygit2.Commit) -> str:
    return f"{_text(commit.author.raw_name)} <{_text(commit.author.raw_email)}>"


def _subject(commit: pygit2.Commit) -> str:
    return next(iter(_message(commit).strip().splitlines()), "")[:SUBJECT_CHARS_MAX]


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
