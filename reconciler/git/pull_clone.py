"""Pull requests' objects, in a bare clone of their own: STATE/git/SOURCE.pulls.git. Nothing is ever checked out.

`reconciler.tasks.pull_requests` owns one per source. Anybody may open a pull request, so what comes with one is kept
apart from the source's own clone: that one is only read from, as this one's alternate. Sizes and times are bounded, and
a clone that has grown beyond its bound is thrown away and made anew; the heads that are still open come again.

What is planned is not the head but its merge with the branch, since that is what would be applied. git's own merge of
trees makes it, in a process with bounds, and it becomes a commit object that no ref names.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pygit2

from kit.errors import Transient
from reconciler.git.clone import FETCHED, BareClone
from reconciler.git.objects import ObjectStore

FETCH_TIMEOUT_S = 60.0
MERGE_TIMEOUT_S = 60.0
PACK_BYTES_MAX = 256 << 20
"""Of what one pull request brings."""
CLONE_BYTES_MAX = 2 << 30
CONFLICTS_MAX = 200
MERGES_REMEMBERED = 100
_REF = re.compile(r"refs/(pull|merge-requests)/[1-9][0-9]{0,9}/head")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Merged:
    """`commit`: what the branch would be, "" when it cannot be merged because of `conflicts` (paths)."""

    commit: str
    conflicts: tuple[str, ...] = ()


class PullClone:
    """`main`: the source's clone; its last fetch is the base. Not for two tasks at once. `renewals`: whoever keeps the
    repository open opens it anew when they have grown."""

    def __init__(self, main: BareClone) -> None:
        self._main = main
        self.path = main.path.with_name(main.path.name.removesuffix(".git") + ".pulls.git")
        self._opened = False
        self._made: dict[str, None] = {}
        self.renewals = 0

    def made(self, commit: str) -> bool:
        """Whether it is a merge that was made here lately."""
        return commit in self._made

    def tip(self) -> str:
        """The base branch as it was last fetched. Blocks on the disk."""
        return ObjectStore(self._main.path).resolve(FETCHED)

    def objects(self) -> ObjectStore:
        return ObjectStore(self.path)

    async def fetch(self, number: int, ref: str) -> str:
        """The commit that the pull request's head is now."""
        attempted = f"fetch {ref} of {self._main.url}"
        assert _REF.fullmatch(ref), ref
        await asyncio.to_thread(self._open)
        options = ["--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance", "--quiet"]
        own = f"refs/trueup/pulls/{number}"
        arguments = [f"--git-dir={self.path}", "fetch", *options, "--", self._main.url, f"+{ref}:{own}"]
        async with self._main.turns.turn(self._main.url):
            await self._main.git.run(attempted, arguments, timeout_s=FETCH_TIMEOUT_S, pack_bytes_max=PACK_BYTES_MAX)
        return await asyncio.to_thread(lambda: self.objects().resolve(own))

    async def merged(self, tip: str, head: str, title: str) -> Merged:
        """The head, if it has all of `tip`; else a merge of both, with `title` as its message."""
        if await asyncio.to_thread(lambda: self.objects().descends(head, tip)):
            return Merged(head)
        arguments = [f"--git-dir={self.path}", "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z"]
        code, output = await self._main.git.ask(
            f"merge {head} with {tip}", [*arguments, tip, head], codes=(0, 1), timeout_s=MERGE_TIMEOUT_S
        )
        tree, *paths = output.split("\0")
        if code == 1:
            return Merged("", tuple(path for path in paths if path)[:CONFLICTS_MAX])
        commit = await asyncio.to_thread(self._commit, tree, tip, head, title)
        self._made[commit] = None
        if len(self._made) > MERGES_REMEMBERED:
            self._made.pop(next(iter(self._made)))
        return Merged(commit)

    def forget_all_but(self, numbers: frozenset[int]) -> None:
        """Heads of pull requests that are closed. Blocks on the disk."""
        if not self._opened:
            return
        repository = pygit2.Repository(str(self.path))
        for name in [name for name in repository.references if name.startswith("refs/trueup/pulls/")]:
            if int(name.rpartition("/")[2]) not in numbers:
                repository.references.delete(name)

    def renew(self) -> None:
        """Throws everything away; the next fetch begins anew. Blocks on the disk."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._opened = False
        self.renewals += 1

    def _open(self) -> None:
        if not self._opened and self.path.exists():
            self.renew()  # it may be from a process that was killed; what is needed of it comes again
        elif self._opened and _size_bytes(self.path) > CLONE_BYTES_MAX:
            self.renew()
        if not self._opened:
            pygit2.init_repository(str(self.path), bare=True)
            shutil.rmtree(self.path / "hooks", ignore_errors=True)
            (self.path / "objects" / "info" / "alternates").write_text(f"{self._main.path / 'objects'}\n")
            self._opened = True

    def _commit(self, tree: str, tip: str, head: str, title: str) -> str:
        """The same merge is the same commit, whenever it is made."""
        if not _COMMIT.fullmatch(tree):
            raise Transient(f"merge {head} with {tip}", "git named no tree", code="source_unreadable")
        repository = pygit2.Repository(str(self.path))
        who = pygit2.Signature("trueup", "trueup@invalid", 0, 0)
        return str(repository.create_commit(None, who, who, title, tree, [tip, head]))


def _size_bytes(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
