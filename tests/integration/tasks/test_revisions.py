"""What is told of each commit, and that it is told once: from a push in a real repository to events in Postgres."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kit.errors import Transient
from reconciler.core.acts import Order, Resume, Suspend
from reconciler.core.revision_steps import SUPERSEDED_MAX
from reconciler.git.judge import Judged
from reconciler.tasks.git_sync.judging import Judging
from tests.integration.git.repository import Repository
from tests.integration.tasks.controller import Controller, eventually
from tests.integration.tasks.followed import Followed, follow, site

BAD = "      replicaz: 3\n"


@pytest.fixture
async def followed(controller: Controller, tmp_path: Path) -> Followed:
    await controller.enrol("node-a")
    return follow(Repository(tmp_path / "repository"), controller, tmp_path / "state")


async def break_instances(followed: Followed, digit: str) -> None:
    """Passes in which instances of this image fail for good and all others are ready."""
    controller = followed.controller
    for _ in range(4):
        await controller.scheduler.one_pass()
        for row in (await controller.rows("instances")).values():
            broken = row["workload"]["image"].endswith(digit * 64) and row["desired"] == "running"
            if broken and row["status"] != "failed":
                await controller.report(row["instance_id"], "failed", reason_code="image_not_found")
            elif row["desired"] != "running":
                await controller.report(row["instance_id"], "stopped")


@pytest.mark.parametrize(("seen_after_s", "transactions"), [(60.0, 1), (0.0, 2)])
async def test_a_commit_is_told_step_by_step_in_one_transaction_or_in_two_when_it_takes_long(
    followed: Followed, seen_after_s: float, transactions: int
) -> None:
    followed.sync.seen_after_s = seen_after_s
    commit = await followed.pushed(site(), message="Add the site (#12)")
    await followed.controller.settle()
    assert await followed.told(commit) == ["seen", "validated", "planned", "applied", "converged"]
    events = [each for each in await followed.controller.events() if each.aggregate_id == f"main@{commit}"]
    seen, validated, planned, applied, _ = events
    assert validated.command_id == planned.command_id == applied.command_id
    assert len({seen.command_id, applied.command_id}) == transactions
    assert (seen.payload["commits"], seen.payload["pull_request"]) == (1, "#12")
    assert (validated.payload["resources"], planned.payload["created"], planned.payload["removed"]) == (2, 2, 0)
    row = (await followed.controller.rows("revisions"))[f"main@{commit}"]
    assert (row["status"], row["pull_request"], row["planned"]["created"]) == ("converged", "#12", 2)


async def test_a_commit_is_seen_although_judging_it_does_not_end(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long, or takes the controller down, is known by name meanwhile."""

    async def forever(*_: Any) -> Judged:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Judging, "judge", forever)
    commit = followed.repository.commit(site())
    looking = asyncio.create_task(followed.look())
    await eventually(lambda: followed.controller.events("revision.seen"), "it is seen")
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert await followed.statuses() == {commit: "seen"}
    monkeypatch.undo()
    again = follow(followed.repository, followed.controller, followed.state)
    await again.look()
    assert await followed.told(commit) == ["seen", "validated", "planned", "applied"], "seen once"


async def test_a_commit_that_cannot_be_judged_now_was_seen(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> Judged:
        raise Transient("read it", "an object is missing", code="source_unreadable")

    monkeypatch.setattr(Judging, "judge", fails)
    commit = followed.repository.commit(site())
    for _ in range(2):
        with pytest.raises(Transient):
            await followed.look()
    assert await followed.told(commit) == ["seen"]


async def test_commits_between_two_heads_and_a_refused_head_are_told_that_they_are_over(followed: Followed) -> None:
    first = await followed.pushed(site())
    await followed.controller.settle()
    between = [followed.repository.commit({"README": text}, message=f"words {text}") for text in "ab"]
    bad = await followed.pushed(site(more=BAD))
    assert await followed.told(bad) == ["seen", "refused"]
    assert [await followed.told(each) for each in between] == [[], []], "nothing took their place yet"
    fix = await followed.pushed(site("b"))
    rows = await followed.controller.rows("revisions")
    for commit, was in ((between[0], ""), (between[1], ""), (bad, "refused")):
        row = rows[f"main@{commit}"]
        assert (row["status"], row["superseded_by"], row["was"]) == ("superseded", fix, was)
    assert rows[f"main@{between[0]}"]["subject"] == "words a"
    assert await followed.told(first) == ["seen", "validated", "planned", "applied", "converged"]
    await followed.pushed(site("c"))
    assert await followed.told(between[0]) == ["superseded"], "told once"
    assert await followed.told(fix) == ["seen", "validated", "planned", "applied", "superseded"]


async def test_a_push_of_very_many_commits_tells_the_newest_and_counts_the_others(followed: Followed) -> None:
    await followed.pushed(site())
    lines = ["feature done", f"reset refs/heads/main\nfrom {followed.repository.head()}\n"]
    count = SUPERSEDED_MAX + 500
    for number in range(count):
        who = f"committer Dev <dev@example.com> {1767225600 + number} +0000"
        lines.append(f"commit refs/heads/main\n{who}\ndata 1\n{number % 10}\n")
    followed.repository.git("fast-import", "--quiet", "--force", stdin="\n".join([*lines, "done\n"]).encode())
    before = (await followed.controller.store.log.head()).last_event_id
    looked = await followed.look()
    told = await followed.controller.events("revision.superseded")
    assert len(told) == SUPERSEDED_MAX
    newest = followed.repository.git("rev-list", f"-{SUPERSEDED_MAX}", "main").split()[1:]
    assert set(newest) <= {each.payload["commit"] for each in told}
    seen = (await followed.controller.events("revision.seen"))[-1]
    assert (seen.payload["commit"], seen.payload["commits"]) == (looked.commit, count)
    assert (await followed.controller.store.log.head()).last_event_id < before + SUPERSEDED_MAX + 10


async def test_a_commit_whose_deployment_fails_is_told_so_and_a_revert_rolls_back(followed: Followed) -> None:
    """git revert is the way back: the release that there was, at once, whatever the bad commit is at."""
    good = await followed.pushed(site("a"))
    await followed.controller.settle()
    bad = await followed.pushed(site("b"))
    await break_instances(followed, "b")
    assert (await followed.told(bad))[-2:] == ["applied", "failed"]
    followed.repository.git("revert", "--no-edit", "HEAD")
    back = (await followed.look()).commit
    await followed.controller.settle()
    deployments = [each.payload for each in await followed.controller.events("deployment.created")]
    assert [each["kind"] for each in deployments] == ["deploy", "deploy", "rollback"]
    assert deployments[2]["release_id"] == deployments[0]["release_id"]
    assert await followed.statuses() == {good: "converged", bad: "superseded", back: "converged"}
    assert (await followed.told(bad))[-3:] == ["applied", "failed", "superseded"]


async def test_a_revert_of_a_refused_commit_is_not_held_up_by_it(followed: Followed) -> None:
    good = await followed.pushed(site("a"))
    await followed.controller.settle()
    bad = await followed.pushed(site("a", more=BAD))
    followed.repository.git("revert", "--no-edit", "HEAD")
    back = (await followed.look()).commit
    await followed.controller.settle()
    assert await followed.statuses() == {good: "converged", bad: "superseded", back: "converged"}
    assert len(await followed.controller.events("deployment.created")) == 1, "nothing ran but the good one"


async def test_heads_of_a_suspended_source_are_seen_and_only_that(followed: Followed) -> None:
    await followed.pushed(site())
    order = Order("o-1", "b", "user", "operator:ann", "an incident", "")
    await followed.controller.handlers.act(Suspend("source/main"), order)
    first = await followed.pushed(site("b"))
    await followed.look()
    second = await followed.pushed(site("c"))
    assert [await followed.told(each) for each in (first, second)] == [["seen"], ["seen"]]
    await followed.controller.handlers.act(Resume("source/main"), Order("o-2", "b", "user", "operator:ann", "over", ""))
    await followed.look()
    assert await followed.told(first) == ["seen", "superseded"]
    assert await followed.told(second) == ["seen", "validated", "planned", "applied"]


async def test_a_commit_that_comes_back_after_a_rewrite_is_seen_anew(followed: Followed) -> None:
    first = await followed.pushed(site("a"))
    second = await followed.pushed(site("b"))
    followed.repository.git("reset", "-q", "--hard", first)
    await followed.look()
    assert (await followed.told(first))[-2:] == ["seen", "refused"]
    accepting = follow(followed.repository, followed.controller, followed.state, rewrite=first)
    await accepting.look()
    assert (await followed.told(first))[-3:] == ["validated", "planned", "applied"]
    assert await followed.statuses() == {first: "applied", second: "superseded"}


async def test_a_refusal_is_told_again_only_when_its_reasons_change(followed: Followed) -> None:
    await followed.pushed(site())
    bad = await followed.pushed({"apps/two.yaml": site(more=BAD)["apps/site.yaml"]})
    for _ in range(3):
        followed.sync.look()
        await followed.look()
    assert await followed.told(bad) == ["seen", "refused"]


async def test_two_controllers_that_see_the_same_commit_tell_it_once(followed: Followed, tmp_path: Path) -> None:
    await followed.pushed(site())
    commit = followed.repository.commit(site("b"))
    other = follow(followed.repository, followed.controller.another(), tmp_path / "other")
    results = await asyncio.gather(followed.look(), other.look(), return_exceptions=True)
    assert any(not isinstance(each, BaseException) for each in results)
    assert await followed.told(commit) == ["seen", "validated", "planned", "applied"]
