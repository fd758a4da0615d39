"""One source as the controller reads it: objects, trees and sealed values, all through a reading process.

`reconciler.tasks.git_sync` keeps one `BoundedSource` per source; `reconciler.secret_delivery` asks for sealed values. A
file at which the process dies twice is a finding of the commit, so that its author learns of it; what is applied stays,
and the next commit is read by a new process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kit.errors import Transient
from kit.logs import get
from reconciler.core.declared import ManifestFile
from reconciler.core.findings import Finding
from reconciler.core.model import ResourceId
from reconciler.core.revisions import Source
from reconciler.core.secret_file import ResolveSecret, SecretManifest
from reconciler.git.addresses import path_parts
from reconciler.git.bounded import wire
from reconciler.git.bounded.process import ReaderDied, ReadingProcess
from reconciler.git.history import Ahead, Between, PastPage
from reconciler.git.objects import CommitObject
from reconciler.git.reading_ended import ReadingEnded
from reconciler.git.tree_files import TreeDelta
from reconciler.git.tree_reader import TreeReader

TRIES = 2
"""One death may be an accident (the kernel was short of memory), two are the file's doing."""
_T = TypeVar("_T")
_log = get("git-reading")


class RemoteObjects:
    """The questions that `ObjectStore` answers, asked of the process."""

    def __init__(self, process: ReadingProcess, repository: Path) -> None:
        self._process = process
        self._repository = str(repository)

    def resolve(self, name: str) -> str:
        return self._ask(str, "resolve", name)

    def commit(self, commit: str) -> CommitObject:
        return self._ask(CommitObject, "commit", commit)

    def raw_commit(self, commit: str) -> bytes:
        return self._ask(bytes, "raw_commit", commit)

    def tree(self, object_id: str) -> bytes:
        return self._ask(bytes, "tree", object_id)

    def blob(self, object_id: str, bound_bytes: int) -> bytes:
        return self._ask(bytes, "blob", object_id, bound_bytes)

    def descends(self, commit: str, ancestor: str) -> bool:
        return self._ask(bool, "descends", commit, ancestor)

    def common_ancestor(self, left: str, right: str) -> str:
        return self._ask(str, "common_ancestor", left, right)

    def has(self, object_id: str) -> bool:
        return self._ask(bool, "has", object_id)

    def messages_since(self, base: str, head: str) -> list[str]:
        return self._ask(list[str], "messages_since", base, head)

    def commits_since(self, base: str, head: str, count_max: int) -> list[str]:
        return self._ask(list[str], "commits_since", base, head, count_max)

    def history(self, start: str, stop: str, path: str, count_max: int) -> PastPage:
        return self._ask(PastPage, "history", start, stop, path, count_max)

    def way_to(self, head: str, commit: str) -> tuple[str, ...]:
        return self._ask(tuple[str, ...], "way_to", head, commit)

    def ahead(self, base: str, head: str, count_max: int, told_max: int) -> Ahead:
        return self._ask(Ahead, "ahead", base, head, count_max, told_max)

    def between(self, base: str, head: str, count_max: int) -> list[Between]:
        return self._ask(list[Between], "between", base, head, count_max)

    def sealed(self, blob: str, secret: ResourceId) -> SecretManifest:
        """One secret out of a manifest file, still encrypted."""
        return self._ask(SecretManifest, "sealed", blob, str(secret))

    def _ask(self, kind: type[_T], what: str, *arguments: Any) -> _T:
        try:
            (done,) = self._process.ask(what, self._repository, *arguments)
        except ReaderDied as died:
            raise _transient(self._repository, died) from died
        assert isinstance(done, wire.Done)
        return msgspec.convert(done.value, kind)


class RemoteFiles:
    """`TreeFiles.read`, asked of the process."""

    def __init__(self, process: ReadingProcess, repository: Path, source: Source) -> None:
        self._process = process
        self._repository = str(repository)
        self._arguments = (source.org, source.project, list(path_parts(source.path)))
        self._source_id = source.source_id

    def read(self, commit: str, base: str = "") -> TreeDelta:
        """Raises `ReadingEnded` when the process dies at it again and again."""
        for left in reversed(range(TRIES)):
            try:
                return self._read(commit, base)
            except ReaderDied as died:
                _log.warning("the reading process ended", source=self._source_id, commit=commit, why=str(died))
                if died.cut_off:
                    raise _transient(self._repository, died) from died
                if not left:
                    raise _ended(commit, died) from died
        raise AssertionError("unreachable")

    def _read(self, commit: str, base: str) -> TreeDelta:
        files: list[ManifestFile] = []
        for answer in self._process.ask("read_tree", self._repository, *self._arguments, commit, base):
            if isinstance(answer, wire.Part):
                files.extend(answer.files)
            else:
                rest = msgspec.convert(answer.value, TreeDelta)
                return TreeDelta(rest.base, rest.removed, tuple(files), rest.findings, rest.parsed, rest.unusable)
        raise AssertionError("an answer ends with Done")


class BoundedSource:
    """`objects` and `reader` are what `reconciler.git.judge` takes. Closed, it starts anew with the next question."""

    def __init__(self, repository: Path, source: Source, resolve: ResolveSecret, process: ReadingProcess) -> None:
        self.process = process
        self.objects = RemoteObjects(process, repository)
        self.reader = TreeReader(RemoteFiles(process, repository, source), resolve)

    def close(self) -> None:
        self.process.close()


def _transient(repository: str, died: ReaderDied) -> Transient:
    why = f"the reading process ended: {died.how}"
    return Transient(f"read {repository}", why, fix="nothing is changed", code="reading_ended")


def _ended(commit: str, died: ReaderDied) -> ReadingEnded:
    what = "reading this file" if died.path else "reading the commit"
    message = f"{what} ended the process that did it: {died.how}"
    fix = "make the file smaller or simpler, or take it out of the source"
    return ReadingEnded(commit, Finding(died.path, 0, 0, "", "reading_ended", message, fix))
