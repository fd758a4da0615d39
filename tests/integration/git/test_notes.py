"""refs/notes/trueup, held against git's own `git notes`, and pushed to a real repository beside others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kit.errors import Transient
from reconciler.core.revisions import Source
from reconciler.git.clone import BareClone
from reconciler.git.notes import NOTES, Notes, PushedNotes
from tests.integration.git.repository import Repository

AT_S = 1_767_225_600


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


async def clone_of(repository: Repository, state: Path) -> BareClone:
    clone = BareClone(state, Source("main", "org", "project", str(repository.path)))
    await clone.open()
    await clone.fetch()
    return clone


def pushed_notes(clone: BareClone) -> PushedNotes:
    return PushedNotes(clone.notes_path, clone.url, clone.git)


def shown(repository: Repository, path: Path, commit: str) -> str:
    return repository.git(f"--git-dir={path}", "notes", "--ref=trueup", "show", commit)


async def test_git_shows_the_notes_and_the_same_note_is_not_written_again(
    repository: Repository, tmp_path: Path
) -> None:
    commits = [repository.commit({"a": str(number)}) for number in range(40)]
    clone = await clone_of(repository, tmp_path / "state")
    notes = Notes(clone.path)
    assert notes.write({commit: f"trueup: applied\nnumber: {number}\n" for number, commit in enumerate(commits)}, AT_S)
    assert not notes.write({commits[3]: "trueup: applied\nnumber: 3\n"}, AT_S + 60)
    assert notes.write({commits[3]: "trueup: converged\n"}, AT_S + 60)
    for number, commit in enumerate(commits):
        wanted = "trueup: converged" if number == 3 else f"trueup: applied\nnumber: {number}"
        assert shown(repository, clone.path, commit) == wanted
        assert (notes.read(commit) or "").strip() == wanted
    log = repository.git(f"--git-dir={clone.path}", "log", "-1", "--notes=trueup", commits[3])
    assert "Notes (trueup):" in log and "trueup: converged" in log
    assert len(repository.git(f"--git-dir={clone.path}", "notes", "--ref=trueup", "list").splitlines()) == 40
    assert repository.git(f"--git-dir={clone.path}", "rev-list", "--count", NOTES) == "2"
    assert repository.git(f"--git-dir={clone.path}", "fsck", "--strict") == ""
    await clone.fetch()
    assert notes.read(commits[0]), "a fetch leaves them alone"


async def test_notes_are_pushed_beside_those_of_others(repository: Repository, tmp_path: Path) -> None:
    first, second = repository.commit({"a": "1"}), repository.commit({"a": "2"})
    repository.git("notes", "--ref=trueup", "add", "-m", "written by hand", first)
    clone = await clone_of(repository, tmp_path / "state")
    await pushed_notes(clone).push({second: "trueup: applied\n"}, AT_S)
    other = await clone_of(repository, tmp_path / "other")
    await pushed_notes(other).push({second: "trueup: converged\n"}, AT_S)
    await pushed_notes(clone).push({first: "trueup: refused\n"}, AT_S)
    assert repository.git("notes", "--ref=trueup", "show", first) == "trueup: refused", "the one note of a commit"
    assert repository.git("notes", "--ref=trueup", "show", second) == "trueup: converged"
    assert repository.git("rev-list", "--count", NOTES) == "4", "one after the other, nothing was forced"
    before = repository.git("rev-parse", NOTES)
    await pushed_notes(clone).push({first: "trueup: refused\n"}, AT_S + 9)
    assert repository.git("rev-parse", NOTES) == before, "what is there already is not pushed"


async def test_a_push_that_somebody_was_faster_than_is_made_anew(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = repository.commit({"a": "1"}), repository.commit({"a": "2"})
    clone = await clone_of(repository, tmp_path / "state")
    fetch, raced = PushedNotes._fetch, list[str]()

    async def and_then_somebody_pushes(self: PushedNotes) -> None:
        await fetch(self)
        if not raced:
            raced.append(repository.git("notes", "--ref=trueup", "add", "-m", "by hand", first))

    monkeypatch.setattr(PushedNotes, "_fetch", and_then_somebody_pushes)
    await pushed_notes(clone).push({second: "trueup: applied\n"}, AT_S)
    shown_of = [repository.git("notes", "--ref=trueup", "show", commit) for commit in (first, second)]
    assert (raced, shown_of) == ([""], ["by hand", "trueup: applied"])


async def test_a_repository_that_takes_no_notes_says_so_and_keeps_its_own(
    repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit({"a": "1"})
    repository.git("config", "receive.hideRefs", "refs/notes")
    clone = await clone_of(repository, tmp_path / "state")
    with pytest.raises(Transient) as failed:
        await pushed_notes(clone).push({commit: "trueup: applied\n"}, AT_S)
    assert "push refs/notes/trueup" in failed.value.attempted
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("rev-parse", "--verify", "-q", NOTES)


async def test_a_clone_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(Transient) as failed:
        Notes(tmp_path / "nowhere.git").write({"a" * 40: "trueup: applied\n"}, AT_S)
    assert failed.value.code == "notes_unwritten"
