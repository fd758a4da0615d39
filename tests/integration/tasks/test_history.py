"""trueup log: Git's history joined with what the log knows, on a real repository and real Postgres."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.errors import Refusal
from reconciler.core.history import Entry, HistoryPage, Wanted, outcome_text
from tests.integration.git.repository import Repository
from tests.integration.tasks.controller import Controller
from tests.integration.tasks.followed import Followed, follow, site
from tests.integration.tasks.test_revisions import BAD, break_instances
from tests.unit.planner.trees import app


@pytest.fixture
async def followed(controller: Controller, tmp_path: Path) -> Followed:
    await controller.enrol("node-a")
    return follow(Repository(tmp_path / "repository"), controller, tmp_path / "state")


def outcomes(page: HistoryPage) -> list[tuple[str, str]]:
    return [(each.subject, each.outcome) for each in page.entries]


async def story(followed: Followed) -> dict[str, str]:
    """Subject -> commit: two from before the source was followed, then one of each kind."""
    made = {name: followed.repository.commit({"README": name}, message=name) for name in ("ancient", "old")}
    made["begin"] = await followed.pushed(site("a"), message="begin")
    await followed.controller.settle()
    made["passed"] = followed.repository.commit({"README": "passed"}, message="passed")
    made["bad"] = await followed.pushed(site("a", more=BAD), message="bad")
    made["broken"] = await followed.pushed(site("b"), message="broken")
    await break_instances(followed, "b")
    made["fix"] = await followed.pushed(site("c"), message="fix (#7)")
    await followed.controller.settle()
    made["refused"] = await followed.pushed(site("c", more=BAD), message="refused")
    return made


async def test_each_commit_with_what_became_of_it(followed: Followed) -> None:
    made = await story(followed)
    page = await followed.log()
    assert outcomes(page) == [
        ("refused", "refused"),
        ("fix (#7)", "converged"),
        ("broken", "superseded"),
        ("bad", "superseded"),
        ("passed", "superseded"),
        ("begin", "converged"),
        ("old", "before"),
        ("ancient", "before"),
    ]
    assert (page.head, page.applied_commit, page.next) == (made["refused"], made["fix"], None)
    refused, fix, broken, bad, passed, begin, *_ = page.entries
    assert refused.findings[0]["code"] == "unknown_field" and refused.base == made["fix"]
    assert (fix.pull_request, fix.counts["updated"], fix.deployments.succeeded) == ("#7", 1, 1)
    assert fix.seconds is not None and outcome_text(fix).startswith("converged in ")
    assert [each.type for each in fix.events] == [
        f"revision.{step}" for step in ("seen", "validated", "planned", "applied", "converged")
    ]
    assert (broken.was, broken.superseded_by, broken.deployments.made) == ("failed", made["fix"], 1)
    assert [(each.superseded_by, each.was) for each in (bad, passed)] == [
        (made["broken"], "refused"),
        (made["broken"], ""),
    ]
    assert begin.changes[0]["verb"] == "create" and begin.author == "Dev <dev@example.com>"


async def test_a_commit_that_leaves_an_app_as_it_was_says_which(controller: Controller, tmp_path: Path) -> None:
    await controller.enrol("node-a")
    followed = follow(Repository(tmp_path / "repository"), controller, tmp_path / "state", on_error="hold-app")
    await followed.pushed(site("a"))
    commit = await followed.pushed({**site("b", more=BAD), "other.yaml": app("other")})
    await controller.settle()
    entry = await followed.entry(commit)
    assert (entry.outcome, entry.counts["held"], entry.counts["created"]) == ("converged", 1, 1)
    assert len(entry.held) == 1 and entry.held[0].startswith("app prod/app/site: apps/site.yaml:10:7 ")


async def test_a_commit_that_was_only_fetched_waits(followed: Followed) -> None:
    await followed.pushed(site())
    followed.repository.commit({"README": "x"}, message="one")
    await followed.sync.branch.fetch()
    assert outcomes(await followed.log())[0] == ("one", "waiting")


async def test_pages_join_without_a_gap_and_say_the_same_as_one_page(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far back: a page does not look at all those before it once more."""
    await story(followed)
    whole = (await followed.log()).entries
    monkeypatch.setattr("reconciler.git.history.WAY_MAX", 1)
    for size in (1, 2, 3):
        found, wanted = list[Entry](), Wanted(limit=size)
        while True:
            page = await followed.log(wanted)
            found += page.entries
            assert len(page.entries) <= size
            if page.next is None:
                break
            wanted = Wanted(start=page.next.start, under=page.next.under, limit=size)
        assert tuple(found) == whole


async def test_a_range_a_path_and_a_time(followed: Followed) -> None:
    made = await story(followed)
    assert outcomes(await followed.log(Wanted(start=made["bad"], stop=made["begin"]))) == [
        ("bad", "superseded"),
        ("passed", "superseded"),
    ]
    found = outcomes(await followed.log(Wanted(path="README")))
    assert found == [("passed", "superseded"), ("old", "before"), ("ancient", "before")]
    assert outcomes(await followed.log(Wanted(path="apps", limit=1))) == [("refused", "refused")]
    assert outcomes(await followed.log(Wanted(since="2026-01-01T00:00:01.000Z"))) == []
    assert len(outcomes(await followed.log(Wanted(until="2026-01-01T00:00:00.000Z", limit=50)))) == 8
    short = await followed.log(Wanted(start=made["fix"][:9], limit=1))
    assert [each.commit for each in short.entries] == [made["fix"]]


async def test_one_commit_in_the_middle_knows_what_was_applied_on_top_of_it(followed: Followed) -> None:
    made = await story(followed)
    for name, state in (("passed", "superseded"), ("old", "before"), ("begin", "converged")):
        entry = await followed.entry(made[name])
        assert (entry.subject, entry.outcome) == (name, state)
    assert (await followed.entry(made["passed"])).superseded_by == made["broken"]


async def test_a_commit_of_a_merged_branch_names_the_merge(followed: Followed) -> None:
    await followed.pushed(site("a"))
    git = followed.repository.git
    git("checkout", "-q", "-b", "topic")
    side = [followed.repository.commit({f"notes/{name}": name}, message=name) for name in "xy"]
    git("checkout", "-q", "main")
    await followed.pushed({"README": "meanwhile"})
    git("merge", "-q", "--no-ff", "topic", "-m", "Merge pull request #31 from dev/topic")
    merge = (await followed.look()).commit
    await followed.pushed({"README": "later"})
    entry = await followed.entry(merge)
    assert (entry.pull_request, entry.brought) == ("#31", 2)
    assert [(each["commit"], each["subject"]) for each in entry.parts] == [(side[1], "y"), (side[0], "x")]
    assert [await followed.told(each) for each in side] == [[], []], "the branch never named them"
    page = await followed.log(Wanted(start=side[0]))
    (part,) = page.entries
    assert (part.commit, part.came_with, part.outcome, part.merge_outcome) == (side[0], merge, "part", "superseded")
    assert outcome_text(part) == f"part of {merge[:12]}, which is superseded"
    assert page.next is None
    assert side[0] not in {each.commit for each in (await followed.log()).entries}


async def test_what_is_no_commit_of_the_clone_is_said_so(followed: Followed) -> None:
    await followed.pushed(site())
    for start, code in (("0" * 40, "not_found"), ("main", "invalid_argument"), ("HEAD~1", "invalid_argument")):
        with pytest.raises(Refusal) as refused:
            await followed.log(Wanted(start=start))
        assert refused.value.code == code
