"""The loop that notes on each commit what became of it: real repository, clone and Postgres."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kit.clock import SystemClock
from kit.errors import Transient
from reconciler.git.notes import NOTES, Notes, PushedNotes
from reconciler.tasks.git_sync.judging import Judging
from reconciler.tasks.notes import NotesLoop
from tests.integration.git.repository import Repository
from tests.integration.tasks.controller import Controller
from tests.integration.tasks.followed import Followed, follow, site
from tests.integration.tasks.test_revisions import BAD, break_instances


@pytest.fixture
async def followed(controller: Controller, tmp_path: Path) -> Followed:
    await controller.enrol("node-a")
    return follow(Repository(tmp_path / "repository"), controller, tmp_path / "state")


def loop_of(followed: Followed, *, push: bool = False) -> NotesLoop:
    clone, store = followed.sync.branch.clone, followed.controller.store
    pushed = PushedNotes(clone.notes_path, clone.url, clone.git) if push else None
    notes, clock = Notes(clone.path), SystemClock()
    return NotesLoop("main", followed.history, notes, store.log, store.views, clock, random.Random(1), pushed)


async def test_each_commit_is_noted_as_what_became_of_it(followed: Followed) -> None:
    loop = loop_of(followed)
    good = await followed.pushed(site("a"), message="begin (#3)")
    await loop.step()
    assert (loop.notes.read(good) or "").startswith("trueup: applied\nsource: main\n")
    await followed.controller.settle()
    passed = followed.repository.commit({"README": "x"})
    broken = await followed.pushed(site("b"))
    await break_instances(followed, "b")
    refused = await followed.pushed(site("b", more=BAD))
    await loop.step()
    told = {commit: (loop.notes.read(commit) or "").splitlines() for commit in (good, passed, broken, refused)}
    assert told[good][0] == "trueup: converged"
    assert "pull request, as the message says: #3" in told[good] and "changes: 2 created" in told[good]
    assert "deployments: 1 deployment: 1 succeeded" in told[good]
    assert any(line.startswith("seconds to converge: ") for line in told[good])
    assert told[passed][:4] == [
        "trueup: superseded", "source: main", f"superseded by: {broken}", "was: not looked at by itself",
    ]  # fmt: skip
    assert told[broken][0] == "trueup: failed" and any(line.startswith("why: prod/app/site") for line in told[broken])
    assert told[refused][0] == "trueup: refused" and any("replicaz" in line for line in told[refused])
    tip = followed.repository.git(f"--git-dir={followed.sync.branch.clone.path}", "rev-parse", NOTES)
    await loop_of(followed).step()
    assert followed.repository.git(f"--git-dir={followed.sync.branch.clone.path}", "rev-parse", NOTES) == tip, "once"


async def test_a_commit_that_is_only_seen_is_not_noted(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise Transient("read it", "not now")

    monkeypatch.setattr(Judging, "judge", fails)
    commit = followed.repository.commit(site())
    with pytest.raises(Transient):
        await followed.look()
    loop = loop_of(followed)
    await loop.step()
    assert await followed.told(commit) == ["seen"] and loop.notes.read(commit) is None


async def test_notes_are_pushed_only_where_that_is_asked_for(followed: Followed) -> None:
    commit = await followed.pushed(site())
    await loop_of(followed).step(push=True)
    assert followed.repository.git("for-each-ref", NOTES) == ""
    await loop_of(followed, push=True).step()
    assert followed.repository.git("for-each-ref", NOTES) == "", "who does not hold the lease does not push"
    await loop_of(followed, push=True).step(push=True)
    assert followed.repository.git("notes", "--ref=trueup", "show", commit).startswith("trueup: applied")


async def test_a_remote_that_takes_no_notes_holds_up_none_in_the_clone(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.tasks.notes.BATCH_MAX", 1)
    followed.repository.git("config", "receive.hideRefs", "refs/notes")
    loop = loop_of(followed, push=True)
    commits = []
    for digit in "abc":
        commits.append(await followed.pushed(site(digit)))
        with pytest.raises(Transient):
            await loop.step(push=True)
    assert all(loop.notes.read(commit) for commit in commits)
    followed.repository.git("config", "--unset", "receive.hideRefs")
    await loop.step(push=True)
    assert len(followed.repository.git("notes", "--ref=trueup", "list").splitlines()) == 3


async def test_every_commit_between_two_applied_heads_is_noted(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that a merge brought, and those that were passed over and are too many to be told: without an event."""
    monkeypatch.setattr("reconciler.core.decide.git.steps.SUPERSEDED_MAX", 2)
    monkeypatch.setattr("reconciler.tasks.notes.BATCH_MAX", 3)
    git, loop = followed.repository.git, loop_of(followed)
    old = followed.repository.commit({"README": "old"})
    await followed.pushed(site("a"))
    git("checkout", "-q", "-b", "topic")
    side = [followed.repository.commit({f"notes/{name}": name}) for name in "xyz"]
    git("checkout", "-q", "main")
    passed = [followed.repository.commit({"README": name}) for name in "12"]
    git("merge", "-q", "--no-ff", "topic", "-m", "Merge topic")
    merge = followed.repository.head()
    head = await followed.pushed({"README": "later"})
    await loop.step()
    for each in side:
        assert loop.notes.read(each) == f"trueup: part\nsource: main\npart of: {merge}\n"
        assert await followed.told(each) == []
    for each in (*passed, merge):
        assert (loop.notes.read(each) or "").splitlines()[2] == f"superseded by: {head}"
    assert [await followed.told(each) for each in (*passed, merge)] == [[], [], ["superseded"]]
    assert loop.notes.read(old) is None, "from before the source was followed"
    assert (loop.notes.read(head) or "").startswith("trueup: applied\n")


async def test_what_a_refused_merge_brought_waits_for_what_is_applied(followed: Followed) -> None:
    git, loop = followed.repository.git, loop_of(followed)
    await followed.pushed(site("a"))
    git("checkout", "-q", "-b", "topic")
    side = followed.repository.commit({"notes/x": "x"})
    git("checkout", "-q", "main")
    followed.repository.commit(site("a", more=BAD))
    git("merge", "-q", "--no-ff", "topic", "-m", "Merge topic")
    merge = followed.repository.head()
    assert (await followed.look()).result == "refused"
    await loop.step()
    assert loop.notes.read(side) is None
    await followed.pushed(site("b"))
    await loop.step()
    assert loop.notes.read(side) == f"trueup: part\nsource: main\npart of: {merge}\n"
