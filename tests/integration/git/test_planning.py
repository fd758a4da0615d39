"""Plans of commits in a real clone, against the fleet of the test twin."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kit.clock import SystemClock
from kit.errors import Refusal, Transient
from kit.wire import Enrolment, InstanceReport, NodeReport
from reconciler import planning
from reconciler.core.preview import RenderedPlan, preview
from reconciler.core.preview.markdown import MARK, rendered
from reconciler.core.revisions import Source
from reconciler.git.bounded.limits import Limits
from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.clone import BareClone
from reconciler.git.signatures import SignatureCheck
from reconciler.git.signers_file import SignersFile
from reconciler.handlers import Handlers
from reconciler.ids import UlidIds
from reconciler.planning import Planning
from reconciler.tasks.git_sync import GitSync
from reconciler.tasks.scheduler import Scheduler
from reconciler.vault import resolve_offline
from tests.integration.git.repository import SITE, Repository
from tests.twin import MemoryLog, MemoryViews
from tests.unit.planner.trees import ENVIRONMENT, app, volume


@dataclass
class Controller:
    repository: Repository
    sync: GitSync
    planning: Planning
    scheduler: Scheduler
    handlers: Handlers
    views: MemoryViews
    log: MemoryLog

    async def roll_out(self) -> None:
        """The head is applied, and agents do as they are told."""
        assert (await self.sync.step()).result in ("applied", "unchanged")
        for _ in range(10):
            await self.scheduler.one_pass()
            for row in (await self.views.snapshot(("instances",))).rows["instances"].values():
                status: Any = "stopped" if row["desired"] != "running" else "ready"
                if row["status"] != status:
                    told = InstanceReport(row["instance_id"], row["epoch"], row["counter"] + 1, status, "")
                    await self.handlers.record_node_report(NodeReport(row["node_id"], (told,)))


@pytest.fixture
async def controller(tmp_path: Path) -> Controller:
    repository = Repository(tmp_path / "repository")
    source = Source("main", "org", "project", str(repository.path))
    log, clock, rng, ids = MemoryLog(), SystemClock(), random.Random(1), UlidIds()
    views = MemoryViews(log)
    handlers = Handlers(log, views, ids, clock)
    await handlers.register_source(source)
    await handlers.enrol_node(Enrolment("node-a", "fd00::/64", 4 << 30, 4.0, 1 << 40, "age1x", "kvm", "1"))
    clone = BareClone(tmp_path / "state", source)
    writes = (handlers.see_revision, handlers.submit_revision, handlers.refuse_revision)
    sync = GitSync(source, clone, resolve_offline, log, views, *writes, clock, rng)
    made = Planning(source, clone, resolve_offline, views)
    return Controller(repository, sync, made, Scheduler(log, views, handlers, ids, clock, rng), handlers, views, log)


async def plan_for(controller: Controller, base: str, head: str) -> RenderedPlan:
    """As for a pull request: it waits its turn."""
    return rendered(await controller.planning.document(base, head, wait_s=planning.WAIT_S))


async def fetched(controller: Controller) -> None:
    """As the loop that follows pull requests does it: the commit is in the clone, and nothing is applied."""
    await controller.sync.branch.clone.fetch()


def pull(controller: Controller, commit: str) -> None:
    """A commit that is on no branch that is followed comes into the clone."""
    clone = controller.sync.branch.clone
    controller.repository.git(f"--git-dir={clone.path}", "fetch", "-q", str(controller.repository.path), commit)


async def test_a_commit_is_planned_on_what_runs_and_changes_nothing(controller: Controller) -> None:
    base = controller.repository.commit(SITE)
    await controller.roll_out()
    head = controller.repository.commit({"apps/site/app.yaml": app(more="      replicas: 2\n")})
    await fetched(controller)
    before = len(controller.log.events)
    plan = await controller.planning.document("", head[:12])
    assert len(controller.log.events) == before
    assert (plan.commit, plan.base, plan.applied, plan.event_id) == (head, base, base, before)
    assert [(each.app, each.starts, each.stops) for each in plan.roll_outs] == [("prod/app/site", 1, 0)]
    assert plan.roll_outs[0].placed == {"node-a": 2}
    told = await plan_for(controller, base, head)
    assert told.ok
    assert told.markdown.startswith(MARK)
    assert told.summary == plan.summary == "1 changed, 1 instance start"


async def test_what_the_plan_said_is_what_the_merge_does(controller: Controller) -> None:
    controller.repository.commit(SITE)
    await controller.roll_out()
    head = controller.repository.commit(
        {"apps/site/app.yaml": app(more="      replicas: 2\n").replace("128Mi", "256Mi")}
    )
    await fetched(controller)
    plan = await controller.planning.document("", head)
    await controller.roll_out()
    rows = (await controller.views.snapshot(("instances", "resources"))).rows
    assert len(rows["instances"]) == plan.environments[0].instances_after == 2
    sizes = {row["workload"]["memory_bytes"] for row in rows["instances"].values()}
    assert sizes == {256 << 20}


async def test_a_branch_that_is_behind_is_planned_from_where_it_left(controller: Controller) -> None:
    fork = controller.repository.commit(SITE)
    controller.repository.git("checkout", "-q", "-b", "feature")
    head = controller.repository.commit({"apps/site/spare.yaml": volume("spare")})
    controller.repository.git("checkout", "-q", "main")
    applied = controller.repository.commit({"apps/site/app.yaml": app(more="      replicas: 2\n")})
    await controller.roll_out()
    pull(controller, head)
    plan = await controller.planning.document("", head)
    assert (plan.base, plan.applied) == (fork, applied)
    assert [(each.verb, each.resource) for each in plan.changes] == [("create", "prod/site/volume/spare")]
    assert plan.roll_outs == (), "the replicas that main has beyond the fork stay"
    assert any("beyond that stays" in note for note in plan.notes)


async def test_a_bad_commit_is_refused_with_its_place(controller: Controller) -> None:
    controller.repository.commit(SITE)
    await controller.roll_out()
    head = controller.repository.commit({"apps/site/app.yaml": app().replace("128Mi", "lots")})
    await fetched(controller)
    told = await plan_for(controller, "", head)
    assert not told.ok
    assert "apps/site/app.yaml:8" in told.markdown
    assert told.summary.startswith("The commit would be applied except prod/app/site")
    head = controller.repository.commit({"env.yaml": ENVIRONMENT.replace("prod}", "prod, nam: x}")})
    await fetched(controller)
    told = await plan_for(controller, "", head)
    assert not told.ok
    assert "env.yaml:3" in told.markdown
    assert told.summary.startswith("The commit would be refused")


@pytest.mark.parametrize("head", ["HEAD", "main", "a..b", "--all", "refs/heads/main", "abc", "", "A" * 40, "g" * 40])
async def test_only_commit_ids_are_taken(controller: Controller, head: str) -> None:
    controller.repository.commit(SITE)
    await controller.roll_out()
    with pytest.raises(Refusal) as caught:
        await controller.planning.document("", head)
    assert caught.value.code == "invalid_argument"


async def test_a_commit_that_was_not_fetched_is_not_found(controller: Controller) -> None:
    controller.repository.commit(SITE)
    await controller.roll_out()
    with pytest.raises(Refusal, match="not in the controller's clone"):
        await controller.planning.document("", "d" * 40)


async def test_one_plan_at_a_time_and_bounded(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that takes too long is given up by who asked, and still holds the place until it has ended."""
    head = controller.repository.commit(SITE)
    await controller.roll_out()
    gate, made = threading.Event(), preview

    def slow(*arguments: Any) -> Any:
        assert gate.wait(30)
        return made(*arguments)

    monkeypatch.setattr(planning, "preview", slow)
    monkeypatch.setattr(planning, "PLAN_TIMEOUT_S", 0.05)
    with pytest.raises(Transient) as late:
        await controller.planning.document("", head)
    assert late.value.code == "plan_timeout"
    with pytest.raises(Transient) as busy:
        await controller.planning.document("", head)
    assert busy.value.code == "plan_busy"
    monkeypatch.setattr(planning, "PLAN_TIMEOUT_S", 30.0)
    waiting = asyncio.ensure_future(plan_for(controller, "", head))
    await asyncio.sleep(0)
    gate.set()
    assert (await waiting).ok


async def test_a_reader_that_leaves_does_not_block_the_next_plan(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = controller.repository.commit(SITE)
    await controller.roll_out()
    gate, made, begun = threading.Event(), preview, threading.Event()

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert gate.wait(30)
        return made(*arguments)

    monkeypatch.setattr(planning, "preview", slow)
    asking = asyncio.ensure_future(controller.planning.document("", head))
    await asyncio.to_thread(begun.wait, 30)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gate.set()
    assert (await plan_for(controller, "", head)).ok


async def test_only_what_differs_is_read_again(controller: Controller) -> None:
    controller.repository.commit(SITE)
    await controller.roll_out()
    head = controller.repository.commit({"apps/site/app.yaml": app(more="      replicas: 2\n")})
    await fetched(controller)
    reader = controller.planning._read_with().reader
    await controller.planning.document("", head)
    assert reader.parsed == 1, "the base was read before, and the head differs from it in one file"
    await controller.planning.document("", head)
    assert reader.parsed == 0


async def test_a_pull_request_that_ends_its_reader_costs_the_branch_nothing(controller: Controller) -> None:
    controller.repository.commit(SITE)
    await controller.roll_out()
    controller.planning.reading = ReadingProcess(Limits(file_cpu_s=1.0), ("-m", "tests.attacks.hostile_reader"))
    process = controller.sync.reading.process.pid
    controller.repository.git("checkout", "-qb", "pull")
    pulled = controller.repository.commit({"bad.yaml": "# loop\n"})
    controller.repository.git("checkout", "-q", "main")
    pull(controller, pulled)
    plan = await controller.planning.document("", pulled)
    assert [(each.path, each.code) for each in plan.findings] == [("bad.yaml", "reading_ended")]
    controller.repository.commit({"apps/site/app.yaml": app(more="      replicas: 2\n")})
    assert (await controller.sync.step()).result == "applied"
    assert controller.sync.reading.process.pid == process
    controller.planning.close()


async def test_where_signers_are_asked_for_a_plan_asks_for_them(controller: Controller, tmp_path: Path) -> None:
    controller.repository.commit(SITE)
    await controller.roll_out()
    head = controller.repository.commit({"apps/site/app.yaml": app(more="      replicas: 2\n")})
    await fetched(controller)
    policy = tmp_path / "signers.toml"
    policy.write_text(
        '[[signer]]\nname = "alice"\nemails = ["alice@example.com"]\n[[signer.key]]\n'
        'ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIt/3nGd4a5CZfvFKGFYUtRZUMhCHhJGcZEnrYTHE+mT alice"\n'
    )
    trust = SignersFile(policy).trust()
    controller.planning.signatures = lambda: SignatureCheck(trust, datetime(2026, 6, 1, tzinfo=UTC))
    plan = await controller.planning.document("", head)
    assert not plan.ok
    assert {finding.code for finding in plan.findings} == {"signature_missing"}, plan.findings
