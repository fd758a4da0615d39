"""From a push to commands, with a real repository and a real clone."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from kit.errors import Transient
from reconciler.core.findings import Finding
from reconciler.core.revisions import Refused
from tests.integration.git.platform import Platform, sync_for
from tests.integration.git.repository import SITE, Repository
from tests.unit.planner.trees import ENVIRONMENT, app, route


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def platform() -> Platform:
    return Platform()


def codes(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.code for finding in findings]


async def test_a_commit_becomes_one_batch(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    commit = repository.commit(SITE, message="Begin the site\n\nMore words.")
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    looked = await sync.step()
    assert (looked.result, looked.commit) == ("applied", commit)
    ((revision, commands),) = platform.applied
    assert (revision.base, revision.author, revision.subject) == ("", "Dev <dev@example.com>", "Begin the site")
    assert len(commands) == len(revision.changes) == 4
    assert {command.cause.path for command in commands} == set(SITE)
    assert (await sync.step()).result == "unchanged"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
async def test_addresses_of_both_local_forms(
    repository: Repository, platform: Platform, tmp_path: Path, form: str
) -> None:
    repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", form.format(repository.path))
    assert (await sync.step()).result == "applied"


async def test_a_restart_goes_on_from_what_is_applied(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    first = repository.commit(SITE)
    await sync_for(platform, tmp_path / "state", str(repository.path)).step()
    repository.commit({"apps/site/route.yaml": route("r", "other")})
    await sync_for(platform, tmp_path / "state", str(repository.path)).step()
    revision, commands = platform.applied[-1]
    assert revision.base == first
    assert [change.verb for change in revision.changes] == ["update"]
    assert len(commands) == 1


async def test_a_suspended_source_is_fetched_and_counted_and_not_applied(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    platform.suspended = True
    for behind, text in enumerate(("one", "two", "three"), start=1):
        head = repository.commit({"apps/site/route.yaml": route("r", text)})
        looked = await sync.step()
        assert (looked.result, looked.commit, sync.branch.behind) == ("suspended", head, behind)
    repository.commit({"apps/site/app.yaml": app(more="      replicaz: 3\n")})
    assert (await sync.step()).result == "suspended", "nor is a bad one refused: nobody has looked at it"
    repository.commit({"apps/site/app.yaml": app()})
    assert (await sync.step()).result == "suspended"
    assert (len(platform.applied), platform.refused, sync.trouble) == (1, [], "")
    platform.suspended = False
    assert (await sync.step()).result == "applied"
    assert (len(platform.applied), sync.branch.behind) == (2, 0)


async def test_a_follower_counts_too(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    """Every controller can say how far behind a suspended source is."""
    repository.commit(SITE)
    await sync_for(platform, tmp_path / "state", str(repository.path)).step()
    platform.suspended = True
    repository.commit({"apps/site/route.yaml": route("r", "other")})
    follower = sync_for(platform, tmp_path / "other", str(repository.path), interval_s=0.05)
    stop = asyncio.Event()
    following = asyncio.create_task(follower.follow(stop))
    async with asyncio.timeout(20):
        while not follower.branch.behind:
            await asyncio.sleep(0.01)
        stop.set()
        await following
    assert (follower.branch.behind, len(platform.applied)) == (1, 1)


async def test_a_lost_clone_is_made_anew(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    repository.commit(SITE)
    await sync_for(platform, tmp_path / "state", str(repository.path)).step()
    shutil.rmtree(tmp_path / "state" / "git" / "main.git" / "objects")
    (tmp_path / "state" / "git" / "main.git" / "HEAD").write_text("torn")
    repository.commit({"apps/site/route.yaml": route("r", "other")})
    assert (await sync_for(platform, tmp_path / "state", str(repository.path)).step()).result == "applied"


async def test_objects_that_went_missing_come_back(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    """A fetch says that all is well when the refs are; reading then misses an object; the clone is renewed."""
    repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.branch.clone.open()
    await sync.branch.clone.fetch()
    blob = repository.git("rev-parse", "HEAD:env.yaml")
    clone = tmp_path / "state" / "git" / "main.git"
    (pack,) = clone.glob("objects/pack/*.pack")
    content = pack.read_bytes()
    pack.unlink()
    pack.with_suffix(".idx").unlink()
    repository.git(f"--git-dir={clone}", "unpack-objects", "-q", stdin=content)
    (clone / "objects" / blob[:2] / blob[2:]).unlink()
    for _ in range(3):
        with pytest.raises(Transient) as failed:
            await sync.step()
        assert failed.value.code == "source_unreadable"
    assert not platform.refused
    assert (await sync.step()).result == "applied"


async def test_a_bad_commit_is_refused_once_and_never_blocks(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    good = repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    before = dict(platform.rows)
    mistaken = ENVIRONMENT.replace("prod}", "prod, nam: x}")
    bad = repository.commit({"apps/site/app.yaml": app(more="      replicaz: 3\n"), "env.yaml": mistaken})
    looked = await sync.step()
    assert looked.result == "refused"
    assert codes(looked.findings) == ["unknown_field", "unknown_field"]
    assert looked.findings[0].place == "apps/site/app.yaml:10:7"
    assert (await sync.step()).result == "unchanged"
    sync.look()
    assert (await sync.step()).result == "refused"
    assert [each.commit for each in platform.refused] == [bad]
    assert platform.rows == before
    repository.commit({"apps/site/app.yaml": app(more="      replicas: 3\n"), "env.yaml": ENVIRONMENT})
    assert (await sync.step()).result == "applied"
    assert platform.applied[-1][0].base == good


async def test_a_bad_app_is_held_back_and_the_rest_is_applied(
    repository: Repository, platform: Platform, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository.commit(SITE | {"blog.yaml": app("blog")})
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    more = "      replicas: 3\n"
    repository.commit({"apps/site/app.yaml": app(more="      replicaz: 3\n"), "blog.yaml": app("blog", more)})
    looked = await sync.step()
    assert (looked.result, codes(looked.findings), codes(looked.held[0].findings)) == ("applied", [], ["unknown_field"])
    revision, commands = platform.applied[-1]
    assert [each.app for each in revision.held] == ["org/project/prod/site/app/site"]
    assert [command.cause.path for command in commands] == ["blog.yaml"]
    (line,) = [each for each in caplog.records if each.message == "applied except"]
    assert "apps/site/app.yaml:10:7" in str(line.__dict__)
    restarted = sync_for(platform, tmp_path / "state", str(repository.path))
    repository.commit({"apps/site/app.yaml": app(more=more)})
    await restarted.step()
    revision, commands = platform.applied[-1]
    assert (revision.held, revision.released) == ((), ("org/project/prod/site/app/site",))
    assert [command.cause.path for command in commands] == ["apps/site/app.yaml"]


async def test_after_an_accepted_rewrite_nothing_is_held_back(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    """What a held app needs (the ciphertext of its secrets) may be in no commit of the new history."""
    repository.commit(SITE)
    await sync_for(platform, tmp_path / "state", str(repository.path)).step()
    repository.git("checkout", "-q", "--orphan", "fresh")
    other = repository.commit({"apps/site/app.yaml": app(more="      replicaz: 3\n")})
    repository.git("branch", "-qf", "main", other)
    accepting = sync_for(platform, tmp_path / "state", str(repository.path), rewrite=other)
    looked = await accepting.step()
    assert (looked.result, codes(looked.findings)) == ("refused", ["unknown_field"])


async def test_a_rewritten_history_waits_for_an_operator(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    applied = repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    repository.git("checkout", "-q", "--orphan", "fresh")
    other = repository.commit({}, remove=("apps/site/route.yaml",), message="rewritten")
    repository.git("branch", "-qf", "main", other)
    looked = await sync.step()
    assert codes(looked.findings) == ["history_rewritten"]
    assert applied[:12] in looked.findings[0].message
    assert "site/route/r" in {text.split("/", 3)[3] for text in platform.rows}
    accepting = sync_for(platform, tmp_path / "state", str(repository.path), rewrite=other)
    assert (await accepting.step()).result == "applied"
    assert [change.verb for change in platform.applied[-1][0].changes] == ["delete"]


async def test_an_accepted_rewrite_without_the_old_objects(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    repository.commit(SITE)
    await sync_for(platform, tmp_path / "state", str(repository.path)).step()
    repository.git("checkout", "-q", "--orphan", "fresh")
    other = repository.commit({}, remove=("apps/site/route.yaml",), message="rewritten")
    repository.git("branch", "-qf", "main", other)
    accepting = sync_for(platform, tmp_path / "fresh-state", f"file://{repository.path}", rewrite=other)
    assert (await accepting.step()).result == "applied"
    assert [change.verb for change in platform.applied[-1][0].changes] == ["delete"]


async def test_an_old_head_replayed_is_refused(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    old = repository.commit(SITE)
    repository.commit({"apps/site/route.yaml": route("r", "other")})
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    repository.git("reset", "-q", "--hard", old)
    assert codes((await sync.step()).findings) == ["history_rewritten"]


async def test_an_empty_tree_deletes_nothing(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    repository.commit({"README.md": "gone"}, remove=("env.yaml", "apps"))
    assert codes((await sync.step()).findings) == ["tree_empty"]
    assert len(platform.rows) == 4


async def test_a_missing_folder_deletes_nothing(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    repository.commit({f"deploy/{path}": text for path, text in SITE.items()} | {"ci.yaml": "not: ours"})
    sync = sync_for(platform, tmp_path / "state", str(repository.path), path="deploy/")
    assert (await sync.step()).result == "applied"
    repository.git("mv", "deploy", "elsewhere")
    repository.commit()
    assert codes((await sync.step()).findings) == ["path_missing"]
    assert len(platform.rows) == 4


async def test_an_unreadable_source_changes_nothing(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    repository.path.rename(tmp_path / "away")
    with pytest.raises(Transient) as failed:
        await sync.step()
    assert failed.value.code == "source_unreadable"
    (tmp_path / "away").rename(repository.path)
    repository.git("branch", "-m", "main", "renamed")
    with pytest.raises(Transient, match="the branch is not there"):
        await sync.step()
    assert (len(platform.rows), platform.refused) == (4, [])


async def test_a_branch_that_was_never_born_is_said_to_be_missing(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    sync = sync_for(platform, tmp_path / "state", str(repository.path), interval_s=0.05)
    stop = asyncio.Event()
    running = asyncio.create_task(sync.run(stop))
    try:
        await until(lambda: "the branch is not there" in sync.trouble)
        assert (platform.applied, platform.refused) == ([], [])
        repository.commit(SITE)
        sync.look()
        await until(lambda: len(platform.applied) == 1)
        repository.git("checkout", "-q", "-b", "other")
        repository.git("branch", "-D", "main")
        await until(lambda: "the branch is not there" in sync.trouble)
        assert (len(platform.rows), len(platform.applied), platform.refused) == (4, 1, [])
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def test_a_retained_volume_and_its_confirmation(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    repository.commit(remove=("apps/site/volume.yaml",))
    looked = await sync.step()
    assert (looked.result, codes(looked.findings)) == ("applied", ["volume_retained"])
    repository.commit(message="Unrelated")
    assert (await sync.step()).findings == ()
    assert len(platform.rows) == 4
    repository.commit(message="Drop the data\n\n" + looked.findings[0].fix.rpartition("line: ")[2])
    await sync.step()
    assert [change.verb for change in platform.applied[-1][0].changes] == ["delete"]
    assert len(platform.rows) == 3


async def test_commits_that_were_missed_are_applied_together(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    confirmed = "Drop it\n\nTrueup-Confirm-Delete: prod/site/volume/data"
    repository.commit(remove=("apps/site/volume.yaml",), message=confirmed)
    repository.commit({"apps/site/route.yaml": route("r", "other")})
    await sync.step()
    assert [change.verb for change in platform.applied[-1][0].changes] == ["update", "delete"]


async def test_a_claim_that_stands_against_it_refuses_the_commit(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    platform.answer = Refused((Finding("apps/site/route.yaml", 1, 1, "", "hostname_taken", "somebody has it"),))
    assert codes((await sync.step()).findings) == ["hostname_taken"]
    platform.answer = None
    assert (await sync.step()).result == "unchanged"
    sync.look()
    assert (await sync.step()).result == "applied"


async def test_work_follows_the_change(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    many = {f"apps/site/routes/{number}.yaml": route(f"r{number}", f"h{number}") for number in range(60)}
    repository.commit(SITE | many)
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    await sync.step()
    assert sync.reading.bounded.reader.parsed == 64
    repository.commit({"apps/site/routes/7.yaml": route("r7", "changed")})
    await sync.step()
    assert sync.reading.bounded.reader.parsed == 1


async def test_the_loop_wakes_by_look_and_stops(repository: Repository, platform: Platform, tmp_path: Path) -> None:
    repository.commit(SITE)
    sync = sync_for(platform, tmp_path / "state", str(repository.path), interval_s=3600)
    stop = asyncio.Event()
    running = asyncio.create_task(sync.run(stop))
    try:
        await until(lambda: len(platform.applied) == 1)
        repository.commit({"apps/site/route.yaml": route("r", "other")})
        sync.look()
        await until(lambda: len(platform.applied) == 2)
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def test_the_loop_survives_a_source_that_goes_and_comes(
    repository: Repository, platform: Platform, tmp_path: Path
) -> None:
    repository.commit(SITE)
    repository.path.rename(tmp_path / "away")
    sync = sync_for(platform, tmp_path / "state", str(repository.path), interval_s=0.05)
    sync.backoff = type(sync.backoff)(first_s=0.05, cap_s=0.1)
    stop = asyncio.Event()
    running = asyncio.create_task(sync.run(stop))
    try:
        await until(lambda: "no Git repository" in sync.trouble)
        (tmp_path / "away").rename(repository.path)
        await until(lambda: len(platform.applied) == 1)
        await until(lambda: sync.trouble == "")
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def until(condition: object, within_s: float = 15.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)
