"""Statuses of followed commits: a log and views (the twins), the forge in memory."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from kit.clock import SystemClock
from kit.errors import Refusal, Transient, TrueupError
from reconciler import commits_to_tell
from reconciler.core.events import Cause, NewEvent, newest_version
from reconciler.core.pulls import CommitStatus
from reconciler.core.revisions import Source
from reconciler.tasks import commit_statuses
from reconciler.tasks.commit_statuses import CommitStatuses
from tests.contracts.forges.fake import FakeForge
from tests.twin import MemoryLog, MemoryViews, append

A, B, C = "a" * 40, "b" * 40, "c" * 40
APP = "org/project/prod/site/app/site"
CHANGES = [
    {"verb": "create", "resource_id": APP, "path": "a.yaml", "line": 1},
    {"verb": "update", "resource_id": APP, "path": "a.yaml", "line": 1},
    {"verb": "create", "resource_id": APP, "path": "a.yaml", "line": 1},
]
FINDING = {
    "path": "apps/site.yaml",
    "line": 4,
    "column": 7,
    "pointer": "/spec",
    "code": "unknown_field",
    "message": "unknown field replicaz",
    "fix": "replicas",
    "severity": "error",
}


class World:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.views = MemoryViews(self.log)
        self.forge = FakeForge()
        self.statuses = self.restarted()
        self.number = 0

    def restarted(self, link: str = "") -> CommitStatuses:
        source = Source("main", "org", "project", "/repository")
        self.statuses = CommitStatuses(
            source, self.forge, self.log, self.views, SystemClock(), random.Random(1), link=link
        )
        return self.statuses

    async def say(self, aggregate: str, name: str, event: str, payload: dict[str, Any], commit: str = "") -> None:
        self.number += 1
        source = payload.get("source_id", "main")
        cause = Cause("user", "ann", "org", source_id=source, commit=commit or payload.get("commit", ""))
        new = NewEvent(aggregate, name, event, payload, newest_version(event))
        await append(self.log, f"c{self.number}", new, cause=cause)

    async def register(self, source: str = "main") -> None:
        names = ("source_id", "org", "project", "url", "branch", "path")
        payload = dict(zip(names, (source, "org", "project", "/r", "main", ""), strict=True))
        await self.say("source", source, "source.registered", payload)

    async def revision(self, what: str, commit: str, base: str = "", source: str = "main", **more: Any) -> None:
        payload: dict[str, Any] = {"source_id": source, "commit": commit}
        if what != "converged":
            payload |= {"base": base, "author": "ann", "subject": "s", "findings": [], **more}
        if what == "applied":
            payload.setdefault("changes", CHANGES)
        if what == "converged":
            payload["seconds"] = 12.34
        await self.say("revision", f"{source}@{commit}", f"revision.{what}", payload)

    async def step_of(self, what: str, commit: str) -> None:
        if what == "seen":
            about = {"base": "", "author": "ann", "subject": "s", "commits": 1, "pull_request": ""}
            told = {"source_id": "main", "commit": commit, **about}
            await self.say("revision", f"main@{commit}", "revision.seen", told)
        else:
            await self.revision(what, commit, findings=[FINDING] if what == "refused" else [])

    async def deployment(self, name: str, commit: str, status: str = "", message: str = "") -> None:
        payload: dict[str, Any] = {"deployment_id": name, "app": APP}
        if status:
            payload |= {"status": status, "message": message, "seconds": 1.0}
            await self.say("deployment", name, "deployment.status_changed", payload, commit)
        else:
            payload |= {"release_id": "r-1", "kind": "deploy", "reason": "commit"}
            await self.say("deployment", name, "deployment.created", payload, commit)

    def told(self, commit: str) -> tuple[str, str] | None:
        found = self.forge.status_of(commit, "trueup/apply")
        return (found.state, found.description) if found else None


@pytest.fixture
async def world() -> World:
    made = World()
    await made.register()
    await made.statuses.step()
    return made


async def test_a_commit_is_pending_until_it_has_converged(world: World) -> None:
    await world.revision("applied", A)
    await world.statuses.step()
    assert world.told(A) == ("running", "applied, not converged yet: 2 created, 1 updated")
    await world.revision("converged", A)
    await world.statuses.step()
    assert world.told(A) == ("success", "converged in 12.3 s: 2 created, 1 updated")


async def test_nothing_is_said_before_it_is_in_the_log_and_the_views(world: World) -> None:
    await world.statuses.step()
    assert world.forge.sent == []
    world.views.held_at = 1
    await world.revision("applied", A)
    with pytest.raises(Transient):
        await world.statuses.step()
    assert world.forge.sent == []
    world.views.held_at = None
    await world.statuses.step()
    assert world.told(A) is not None


async def test_a_refused_commit_is_told_the_first_finding(world: World) -> None:
    await world.revision("refused", A, findings=[FINDING, {**FINDING, "line": 9}])
    await world.statuses.step()
    assert world.told(A) == (
        "failure",
        "refused, nothing was changed; 2 errors; apps/site.yaml:4:7: unknown field replicaz",
    )


async def test_a_refused_commit_that_is_applied_later_says_so(world: World) -> None:
    await world.revision("refused", A, findings=[FINDING])
    await world.revision("applied", A)
    await world.statuses.step()
    assert (world.told(A) or ("",))[0] == "running"


async def test_a_superseded_commit_is_told_by_which(world: World) -> None:
    await world.revision("applied", A)
    await world.statuses.step()
    await world.revision("applied", B, base=A)
    await world.statuses.step()
    assert world.told(A) == ("superseded", f"superseded by {B[:12]} before it converged")
    assert (world.told(B) or ("",))[0] == "running"


@pytest.mark.parametrize(
    ("was", "says"),
    [
        ("applied", "before it converged; it was applied"),
        ("failed", "before it converged; it was failed"),
        ("refused", "after it was refused; nothing of it was applied by itself"),
        ("seen", "before it was looked at by itself"),
        ("", "before it was looked at by itself"),
    ],
)
async def test_every_commit_that_another_one_took_the_place_of_is_told_so(world: World, was: str, says: str) -> None:
    if was:
        await world.step_of(was if was != "failed" else "applied", A)
    told = {"source_id": "main", "commit": A, "author": "ann", "subject": "s", "by": B, "was": was}
    await world.say("revision", f"main@{A}", "revision.superseded", told, commit=B)
    await world.statuses.step()
    assert world.told(A) == ("superseded", f"superseded by {B[:12]} {says}")


async def test_a_commit_that_is_seen_is_pending_at_once(world: World) -> None:
    await world.step_of("seen", A)
    await world.statuses.step()
    assert world.told(A) == ("pending", "seen: being looked at, nothing is changed yet")


async def test_a_commit_that_failed_says_why_and_may_still_succeed(world: World) -> None:
    await world.revision("applied", A)
    why = {"reason": "not_converged", "message": "it takes too long: prod/app/site", "seconds": 1800.0}
    told = {"source_id": "main", "commit": A, "deployments": [], **why}
    await world.say("revision", f"main@{A}", "revision.failed", told)
    await world.statuses.step()
    assert world.told(A) == ("failure", "applied, and it failed: it takes too long: prod/app/site")
    await world.revision("converged", A)
    await world.statuses.step()
    assert (world.told(A) or ("",))[0] == "success"


async def test_a_commit_that_converged_stays_a_success(world: World) -> None:
    await world.revision("applied", A)
    await world.revision("converged", A)
    await world.revision("applied", B, base=A)
    await world.statuses.step()
    assert (world.told(A) or ("",))[0] == "success"


async def test_a_refused_commit_takes_nothings_place(world: World) -> None:
    await world.revision("applied", A)
    await world.revision("refused", B, base=A, findings=[FINDING])
    await world.statuses.step()
    assert (world.told(A) or ("",))[0] == "running"


async def test_a_failed_deployment_is_a_failure_until_a_retry_gets_through(world: World) -> None:
    await world.revision("applied", A)
    await world.deployment("d-1", A)
    await world.statuses.step()
    assert (world.told(A) or ("",))[0] == "running"
    await world.deployment("d-1", A, "failed", "web did not become ready")
    await world.statuses.step()
    assert world.told(A) == ("failure", "applied; site failed: web did not become ready")
    await world.deployment("d-1", A, "succeeded")
    await world.statuses.step()
    assert (world.told(A) or ("",))[0] == "running"
    await world.revision("converged", A)
    await world.statuses.step()
    assert (world.told(A) or ("",))[0] == "success"


async def test_another_sources_commits_are_not_ours(world: World) -> None:
    await world.register("other")
    await world.revision("applied", A, source="other")
    await world.statuses.step()
    assert world.forge.sent == []


async def test_a_restart_sends_nothing_twice_and_what_was_left(world: World) -> None:
    await world.revision("applied", A)
    await world.statuses.step()
    await world.restarted().step()
    assert len(world.forge.sent) == 1
    await world.revision("converged", A)  # while no controller was there
    await world.restarted().step()
    assert (world.told(A) or ("",))[0] == "success"


async def test_a_restart_looks_only_at_the_newest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_statuses, "RECENT_MAX", 3)
    for number in range(20):
        await world.revision("refused", f"{number:040x}", findings=[FINDING])
    await world.restarted().step()
    assert sorted(world.forge.statuses) == [f"{number:040x}" for number in (17, 18, 19)]


async def test_more_events_than_a_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_to_tell, "PAGE_EVENTS", 2)
    for number in range(7):
        await world.revision("refused", f"{number:040x}", findings=[FINDING])
    await world.statuses.step()
    assert len(world.forge.statuses) == 7


async def test_a_commit_that_cannot_be_told_now_does_not_hold_back_the_others(world: World) -> None:
    for commit in (A, B, C):
        await world.revision("refused", commit, findings=[FINDING])

    def fail(what: str) -> TrueupError | None:
        if what.endswith(A):
            return Transient("send", "502", code="forge_unavailable")
        return Refusal("send", "no such commit", code="forge_404") if what.endswith(B) else None

    world.forge.fail = fail
    with pytest.raises(Transient):
        await world.statuses.step()
    assert world.told(C) is not None
    world.forge.fail = lambda what: None
    await world.statuses.step()
    assert world.told(A) is not None
    assert world.told(B) is None, "the forge does not have it"


async def test_a_forge_that_is_away_is_asked_once_a_pass(world: World) -> None:
    for commit in (A, B, C):
        await world.revision("refused", commit, findings=[FINDING])
    asked: list[str] = []

    def fail(what: str) -> TrueupError | None:
        asked.append(what)
        return Transient("send", "away", code="forge_unreachable")

    world.forge.fail = fail
    with pytest.raises(Transient):
        await world.statuses.step()
    assert len(asked) == 1


async def test_control_characters_of_a_message_do_not_travel(world: World) -> None:
    await world.revision("refused", A, findings=[{**FINDING, "message": "a\x1b[2J\u202eb\nc"}])
    await world.statuses.step()
    assert (world.told(A) or ("", ""))[1].endswith("a\\x1b[2J\\x202eb\\x0ac")


async def test_the_link_names_the_commit(world: World) -> None:
    await world.revision("applied", A)
    await world.restarted(link="https://fleet.example.test/{commit}").step()
    found = world.forge.status_of(A, "trueup/apply")
    assert isinstance(found, CommitStatus)
    assert found.url == f"https://fleet.example.test/{A}"


async def test_the_loop_follows_the_log_and_stops(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_statuses, "PASS_GAP_S", 0.02)
    stop = asyncio.Event()
    running = asyncio.create_task(world.restarted().run(stop))
    try:
        await world.revision("applied", A)
        async with asyncio.timeout(10):
            while world.told(A) is None:
                await asyncio.sleep(0.01)
            await world.revision("converged", A)
            while (world.told(A) or ("",))[0] != "success":
                await asyncio.sleep(0.01)
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)
