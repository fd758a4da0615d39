"""Notes on commits, in refs/notes/trueup of a bare repository, as `git notes` reads them.

Called by `reconciler.tasks.notes`, in worker threads. A note is a blob whose path in the ref's tree is the commit's id,
two digits, a slash, the other digits: with that, a new note writes two small trees however many notes there are. The
commits that the notes are about need not be in the repository. One that was noted as it is now is not written again.

`PushedNotes` carries them to the source's own repository, out of a repository of its own, STATE/git/SOURCE.notes, so
that nothing there stands in the way of a fetch. It never forces: what is there stays, and is read before each push.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

from kit.errors import Transient
from reconciler.git.objects import TREE_BYTES_MAX
from reconciler.git.transport import GitProgram

NOTES = "refs/notes/trueup"
REMOTE = "refs/remote/notes/trueup"
BATCH_MAX = 200
PUSH_TRIES = 3
PUSH_TIMEOUT_S = 60.0
_WHO = ("trueup", "trueup@localhost")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True, slots=True)
class Notes:
    """Of the repository at `path`, which has one writer at a time."""

    path: Path

    def read(self, commit: str) -> str | None:
        repository = self._open()
        tree = _tree_at(repository, NOTES)
        blob = _entry(repository, tree, commit)
        return None if blob is None else bytes(repository[blob].peel(pygit2.Blob).data).decode("utf-8", "replace")

    def write(self, texts: Mapping[str, str], at_s: int, *, onto: str = NOTES) -> bool:
        """Commit id -> its note, at most BATCH_MAX. `onto`: the ref whose notes stay. False: all was there already."""
        assert len(texts) <= BATCH_MAX and all(_COMMIT.fullmatch(commit) for commit in texts)
        repository = self._open()
        try:
            return self._write(repository, texts, at_s, onto)
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise self._failed(error) from error

    def _write(self, repository: pygit2.Repository, texts: Mapping[str, str], at_s: int, onto: str) -> bool:
        base = _tree_at(repository, onto)
        tree = _with_notes(repository, base, texts)
        if base is not None and tree == base.id:
            return False
        parents = [repository.references[onto].target] if onto in repository.references else []
        who = pygit2.Signature(*_WHO, at_s, 0)
        message = f"{len(texts)} notes\n" if len(texts) > 1 else f"Note on {next(iter(texts))[:12]}\n"
        commit = repository.create_commit(None, who, who, message, tree, parents)
        repository.references.create(NOTES, commit, force=True)
        return True

    def _open(self) -> pygit2.Repository:
        try:
            return pygit2.Repository(str(self.path))
        except (pygit2.GitError, KeyError, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> Transient:
        why = f"{type(error).__name__}: {str(error)[:200]}"
        return Transient(f"write {NOTES} of {self.path}", why, fix="nothing else waits for it", code="notes_unwritten")


@dataclass(frozen=True, slots=True)
class PushedNotes:
    """`folder`: the repository that they are pushed from; made when it is not there."""

    folder: Path
    url: str
    git: GitProgram

    async def push(self, texts: Mapping[str, str], at_s: int) -> None:
        """Returns when the source's repository has these notes. `Transient` when it does not take them now."""
        for left in reversed(range(PUSH_TRIES)):
            await asyncio.to_thread(self._prepare)
            await self._fetch()
            if not await asyncio.to_thread(self._join, texts, at_s):
                return
            try:
                await self._push()
            except Transient:
                if not left:
                    raise  # somebody else is faster again and again, or it is not allowed
            else:
                return

    def _prepare(self) -> None:
        if not self.folder.exists():
            pygit2.init_repository(str(self.folder), bare=True)

    async def _fetch(self) -> None:
        """A ref that is not there yet is no error for a pattern."""
        options = ["--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance", "--quiet"]
        refspec = f"+{NOTES}*:{REMOTE}*"
        arguments = [f"--git-dir={self.folder}", "fetch", "--prune", *options, "--", self.url, refspec]
        await self.git.run(f"fetch the notes of {self.url}", arguments, timeout_s=PUSH_TIMEOUT_S)

    def _join(self, texts: Mapping[str, str], at_s: int) -> bool:
        return Notes(self.folder).write(texts, at_s, onto=REMOTE)

    async def _push(self) -> None:
        arguments = [f"--git-dir={self.folder}", "push", "--quiet", "--", self.url, f"{NOTES}:{NOTES}"]
        try:
            await self.git.run(f"push {NOTES} to {self.url}", arguments, timeout_s=PUSH_TIMEOUT_S)
        except Transient as error:
            fix = f"let the source's credentials write {NOTES}, or set push_notes to false"
            raise Transient(error.attempted, error.why, fix=fix, code="notes_unwritten") from error


def _with_notes(repository: pygit2.Repository, base: pygit2.Tree | None, texts: Mapping[str, str]) -> pygit2.Oid:
    folders: dict[str, dict[str, pygit2.Oid]] = {}
    for commit, text in texts.items():
        folders.setdefault(commit[:2], {})[commit[2:]] = repository.create_blob(text.encode())
    root = repository.TreeBuilder(base) if base is not None else repository.TreeBuilder()
    for name, notes in folders.items():
        before = _folder(repository, base, name)
        folder = repository.TreeBuilder(before) if before is not None else repository.TreeBuilder()
        for rest, blob in notes.items():
            folder.insert(rest, blob, FileMode.BLOB)
            if root.get(name + rest) is not None:
                root.remove(name + rest)  # written flat by somebody else: git would join both
        root.insert(name, folder.write(), FileMode.TREE)
    return root.write()


def _tree_at(repository: pygit2.Repository, ref: str) -> pygit2.Tree | None:
    if ref not in repository.references:
        return None
    return _tree(repository, repository.references[ref].peel(pygit2.Commit).tree_id)


def _tree(repository: pygit2.Repository, oid: pygit2.Oid) -> pygit2.Tree | None:
    """Others may write there too: its size is looked at before it is read."""
    _, size_bytes = repository.odb.read_header(oid)
    if size_bytes > TREE_BYTES_MAX:
        raise ValueError(f"the tree {oid} of the notes has {size_bytes} bytes; the bound is {TREE_BYTES_MAX}")
    found = repository[oid]
    return found if isinstance(found, pygit2.Tree) else None


def _folder(repository: pygit2.Repository, base: pygit2.Tree | None, name: str) -> pygit2.Tree | None:
    return _tree(repository, base[name].id) if base is not None and name in base else None


def _entry(repository: pygit2.Repository, tree: pygit2.Tree | None, commit: str) -> pygit2.Oid | None:
    folder = _folder(repository, tree, commit[:2])
    return folder[commit[2:]].id if folder is not None and commit[2:] in folder else None
