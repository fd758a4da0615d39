"""One source's bare clone, STATE/git/SOURCE.git: fetched into, read by object id, never checked out.

`reconciler.tasks.git_sync` owns one per source. Two refs are kept: refs/trueup/fetched (the branch as it was last seen)
and refs/trueup/applied (what the log says is applied, so that its objects stay even when the branch is rewritten).
A clone that a crash damaged is put aside and made anew: everything in it comes from the source.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pygit2

from kit.errors import Transient, TrueupError
from kit.logs import get
from reconciler.core.revisions import Source
from reconciler.git.access import Access, AccessFiles
from reconciler.git.addresses import check_branch, check_source_id, check_url
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.source import RemoteObjects
from reconciler.git.transport import FETCH_TIMEOUT_S, PACK_BYTES_MAX, GitProgram
from reconciler.git.turns import FetchTurns

FETCHED = "refs/trueup/fetched"
APPLIED = "refs/trueup/applied"
PACKS_MAX = 50
TIDY_TIMEOUT_S = 300.0
_log = get("git-clone")


@dataclass(frozen=True, slots=True)
class Fetching:
    """How a source is fetched. `bytes_max`: of what one fetch brings. `turns`: shared by all sources."""

    access: Access = field(default_factory=Access)
    timeout_s: float = FETCH_TIMEOUT_S
    bytes_max: int = PACK_BYTES_MAX
    turns: FetchTurns = field(default_factory=FetchTurns)


def kept_clones(state: Path, followed: Collection[str]) -> list[BareClone]:
    """Of sources that were followed once: to be read, never to be fetched into. Blocks on the disk."""
    paths = {path.stem: path for path in sorted((state / "git").glob("*.git")) if "." not in path.stem}
    return [BareClone(state, Source(name, "", "", str(path))) for name, path in paths.items() if name not in followed]


class BareClone:
    """Opened by `open`. `fetch` must not run twice at a time. Objects are read by `reconciler.git.bounded`."""

    def __init__(self, state: Path, source: Source, fetching: Fetching | None = None) -> None:
        self.source = source
        self.url = check_url(source.url)
        self._branch = check_branch(source.branch)
        self._folder = state / "git"
        self._fetching = fetching or Fetching()
        self.path = self._folder / f"{check_source_id(source.source_id)}.git"
        self.notes_path = self.path.with_suffix(".notes")
        files = AccessFiles(self.path.with_suffix(".access"), self.url, self._fetching.access)
        self.git = GitProgram(files)
        self.turns = self._fetching.turns

    async def open(self) -> None:
        """Makes the clone if it is not there or cannot be opened."""
        await asyncio.to_thread(self._open)

    async def fetch(self, *, timeout_s: float = 0.0) -> str:
        """The commit that the branch names now. `Transient` ("source_unreadable") when that cannot be said. Waits for
        its turn first, which does not count into `timeout_s` (0: the source's own)."""
        await asyncio.to_thread(self._remove_leftovers)
        attempted = f"fetch the branch {self._branch} of {self.url}"
        options = ["--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance", "--quiet"]
        refspec = f"+refs/heads/{self._branch}:{FETCHED}"
        arguments = [f"--git-dir={self.path}", "fetch", *options, "--", self.url, refspec]
        bounds = self._fetching
        async with bounds.turns.turn(self.url):
            await self.git.run(
                attempted, arguments, timeout_s=timeout_s or bounds.timeout_s, pack_bytes_max=bounds.bytes_max
            )
            await self._tidy()
        return await asyncio.to_thread(self._fetched)

    async def _tidy(self) -> None:
        """Every fetch that brings something brings a pack. Many are made into few; no object is ever left out."""
        if len(await asyncio.to_thread(lambda: list(self.path.glob("objects/pack/*.pack")))) <= PACKS_MAX:
            return
        arguments = [f"--git-dir={self.path}", "repack", "--geometric=2", "-d", "-q"]
        try:
            await self.git.run(f"tidy {self.path}", arguments, timeout_s=TIDY_TIMEOUT_S, pack_bytes_max=1 << 40)
        except Transient as error:  # it can be read as it is; the next fetch tries again
            _log.warning("the clone is not tidied", source=self.source.source_id, why=str(error))

    async def renew(self) -> None:
        """Puts the clone aside and makes a new one: for when objects are missing although every fetch succeeds."""
        await asyncio.to_thread(self._put_aside)
        await self.open()

    def keep_applied(self, commit: str) -> None:
        """Holds on to the objects of the applied commit, if they are (still) here."""
        repository = pygit2.Repository(str(self.path))
        if commit in repository:
            repository.references.create(APPLIED, commit, force=True)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.path.exists() and not self._is_sound():
            self._put_aside()
        if not self.path.exists():
            fresh = self._folder / f".{self.path.name}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            pygit2.init_repository(str(fresh), bare=True)
            shutil.rmtree(fresh / "hooks", ignore_errors=True)
            fresh.rename(self.path)

    def _fetched(self) -> str:
        """The ref as git has just written it. What it names is read elsewhere, see `reconciler.git.bounded`."""
        try:
            return str(pygit2.Repository(str(self.path)).references[FETCHED].target)
        except (pygit2.GitError, KeyError, OSError) as error:
            why = f"the ref cannot be read ({type(error).__name__})"
            raise Transient(f"read {FETCHED} of {self.path}", why, code="source_unreadable") from error

    def _is_sound(self) -> bool:
        """Good enough to fetch into: it opens, and what the refs name is there."""
        reading = ReadingProcess()
        try:
            repository = pygit2.Repository(str(self.path))
            objects = RemoteObjects(reading, self.path)
            for name in (FETCHED, APPLIED):
                if name in repository.references:
                    objects.tree(objects.commit(str(repository.references[name].target)).tree)
        except (TrueupError, pygit2.GitError, KeyError, ValueError, OSError):
            return False
        finally:
            reading.close()
        return True

    def _put_aside(self) -> None:
        aside = self._folder / f"{self.path.name}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        self.path.rename(aside)

    def _remove_leftovers(self) -> None:
        """Locks and half-written packs of a git that was killed. Nobody else writes here."""
        for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/tmp_*"):
            for leftover in self.path.glob(pattern):
                leftover.unlink(missing_ok=True)
