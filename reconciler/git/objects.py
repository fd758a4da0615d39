"""Objects out of a bare clone, by id, with their size looked at before they are read. Nothing is ever checked out.

Called by `tree_walk`, `tree_reader` and `clone`, from worker threads: every function may block on the disk. An object
that is missing or damaged is a `Transient` ("source_unreadable"): unknown is not absent, and nothing is deleted for it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pygit2
from pygit2.enums import ObjectType, SortMode

from kit.errors import Transient, TrueupError
from reconciler.git import history
from reconciler.git.history import Ahead, Between, PastPage

COMMIT_BYTES_MAX = 1 << 20
TREE_BYTES_MAX = 4 << 20
"""Some 60,000 entries; a tree within the walk's bounds is far smaller."""
COMMITS_SINCE_MAX = 1000
SUBJECT_CHARS_MAX = 200


class ObjectTooLarge(TrueupError):
    """A tree or blob beyond its bound. Nobody but a hostile or mistaken author makes such."""

    def __init__(self, object_id: str, size_bytes: int, bound_bytes: int) -> None:
        why = f"it has {size_bytes} bytes; the bound is {bound_bytes}"
        super().__init__(f"read the Git object {object_id}", why, code="object_too_large")
        self.object_id = object_id
        self.size_bytes = size_bytes
        self.bound_bytes = bound_bytes


@dataclass(frozen=True, slots=True)
class CommitObject:
    commit: str
    tree: str
    author: str  # NAME <EMAIL>
    message: str

    @property
    def subject(self) -> str:
        lines = self.message.strip().splitlines()
        return lines[0][:SUBJECT_CHARS_MAX] if lines else ""


class Objects(Protocol):
    """The questions that an `ObjectStore` answers, here or in a process of its own (`reconciler.git.bounded`)."""

    def resolve(self, name: str) -> str: ...

    def commit(self, commit: str) -> CommitObject: ...

    def raw_commit(self, commit: str) -> bytes: ...

    def tree(self, object_id: str) -> bytes: ...

    def blob(self, object_id: str, bound_bytes: int) -> bytes: ...

    def descends(self, commit: str, ancestor: str) -> bool: ...

    def common_ancestor(self, left: str, right: str) -> str: ...

    def has(self, object_id: str) -> bool: ...

    def messages_since(self, base: str, head: str) -> list[str]: ...

    def commits_since(self, base: str, head: str, count_max: int) -> list[str]: ...

    def history(self, start: str, stop: str, path: str, count_max: int) -> PastPage: ...

    def way_to(self, head: str, commit: str) -> tuple[str, ...]: ...

    def ahead(self, base: str, head: str, count_max: int, told_max: int) -> Ahead: ...

    def between(self, base: str, head: str, count_max: int) -> list[Between]: ...


class ObjectStore:
    """A repository's objects. Not safe for two threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._repository = pygit2.Repository(str(path))
        except (pygit2.GitError, KeyError, OSError) as error:
            raise self._unreadable("repository", error) from error

    def resolve(self, name: str) -> str:
        """The commit id that a ref, an abbreviation or HEAD~1 names."""
        try:
            return str(self._repository.revparse_single(name).peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"commit {name[:80]}", error) from error

    def commit(self, commit: str) -> CommitObject:
        self._measure(commit, COMMIT_BYTES_MAX)
        try:
            found = self._repository[commit].peel(pygit2.Commit)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"commit {commit}", error) from error
        author = f"{_plain(found.author.raw_name)} <{_plain(found.author.raw_email)}>"
        return CommitObject(str(found.id), str(found.tree_id), author, found.raw_message.decode("utf-8", "replace"))

    def raw_commit(self, commit: str) -> bytes:
        """A commit object as it is stored: see `core.signing.commit_object`."""
        return self._read(commit, ObjectType.COMMIT, COMMIT_BYTES_MAX)

    def tree(self, object_id: str) -> bytes:
        """A tree object as it is stored: see `tree_entries.parse_tree`."""
        return self._read(object_id, ObjectType.TREE, TREE_BYTES_MAX)

    def blob(self, object_id: str, bound_bytes: int) -> bytes:
        """Raises `ObjectTooLarge` without having read it."""
        return self._read(object_id, ObjectType.BLOB, bound_bytes)

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether `commit` is `ancestor` or comes after it."""
        try:
            return commit == ancestor or bool(self._repository.descendant_of(commit, ancestor))
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"history between {ancestor} and {commit}", error) from error

    def common_ancestor(self, left: str, right: str) -> str:
        """The newest commit that both descend from, "" when there is none."""
        try:
            found = self._repository.merge_base(left, right)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"history of {left} and {right}", error) from error
        return str(found) if found else ""

    def has(self, object_id: str) -> bool:
        return object_id in self._repository

    def messages_since(self, base: str, head: str) -> list[str]:
        """Of the commits that `head` has and `base` has not, newest first; with no base, of `head` alone."""
        return [commit.raw_message.decode("utf-8", "replace") for commit in self._since(base, head, COMMITS_SINCE_MAX)]

    def commits_since(self, base: str, head: str, count_max: int) -> list[str]:
        """Their ids, as `messages_since`. Where commits have wrong dates it may hold some that `base` has too."""
        return [str(commit.id) for commit in self._since(base, head, count_max)]

    def history(self, start: str, stop: str, path: str, count_max: int) -> PastPage:
        """See `history.page`."""
        try:
            return history.page(self._repository, start, stop=stop, path=path, count_max=count_max)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"history from {start}", error) from error

    def way_to(self, head: str, commit: str) -> tuple[str, ...]:
        """See `history.way_to`."""
        try:
            return history.way_to(self._repository, head, commit)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"history between {commit} and {head}", error) from error

    def ahead(self, base: str, head: str, count_max: int, told_max: int) -> Ahead:
        """See `history.ahead`. Nothing when there is no base, or it is not here."""
        if not base or not self.has(base):
            return Ahead(0, ())
        try:
            return history.ahead(self._repository, base, head, count_max=count_max, told_max=told_max)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"history between {base} and {head}", error) from error

    def between(self, base: str, head: str, count_max: int) -> list[Between]:
        """See `history.between`. Nothing when there is no base, or one of them is not here."""
        if not base or not self.has(base) or not self.has(head):
            return []
        try:
            return list(history.between(self._repository, base, head, count_max=count_max))
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"history between {base} and {head}", error) from error

    def _since(self, base: str, head: str, count_max: int) -> list[pygit2.Commit]:
        try:
            if not base:
                return [self._repository[head].peel(pygit2.Commit)]
            walker = self._repository.walk(head, SortMode.TIME)
            walker.hide(base)
            return list(itertools.islice(walker, count_max))
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"history between {base} and {head}", error) from error

    def _read(self, object_id: str, kind: ObjectType, bound_bytes: int) -> bytes:
        self._measure(object_id, bound_bytes)
        try:
            found, content = self._repository.odb.read(object_id)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"object {object_id}", error) from error
        if found != kind:
            raise self._unreadable(f"object {object_id}", TypeError(f"it is no {kind.name.lower()}"))
        return bytes(content)

    def _measure(self, object_id: str, bound_bytes: int) -> None:
        try:
            _, size_bytes = self._repository.odb.read_header(object_id)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise self._unreadable(f"object {object_id}", error) from error
        if size_bytes > bound_bytes:
            raise ObjectTooLarge(object_id, size_bytes, bound_bytes)

    def _unreadable(self, what: str, error: Exception) -> Transient:
        why = f"it is missing or damaged ({type(error).__name__}: {str(error)[:200]})"
        return Transient(f"read the {what} of {self._path}", why, fix="nothing is changed", code="source_unreadable")


def _plain(raw: bytes) -> str:
    """A name for people: no control characters, bounded."""
    text = raw.decode("utf-8", "replace")[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in text)
