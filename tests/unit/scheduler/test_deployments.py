"""Deployments: what makes one fail, what goes on serving then, and that the next good one gets through."""

from __future__ import annotations

import pytest

from reconciler.core.acts import Resume, Suspend
from reconciler.core.model import UpdatePolicy
from reconciler.core.scheduler.limits import CONVERGENCE_LIMIT_S, RETRY_FIRST_S
from tests.unit.scheduler.world import SOURCE, World, app, app_id, process, secret


@pytest.fixture
def world() -> World:
    made = World()
    made.node("node-a")
    made.node("node-b")
    return made


def _images(world: World) -> list[str]:
    return sorted(row["workload"]["image"][-2:] for row in world.ready())


def test_a_release_that_cannot_run_fails_its_deployment_and_the_old_one_serves_on(world: World) -> None:
    world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    world.commit(app(web=process("v2", replicas=2)))
    world.settle(never_ready=["v2"])
    assert _images(world) == ["v1", "v1"]
    assert world.deployment()["status"] == "failed"
    assert "image_not_found" in world.deployment()["message"]
    assert len(world.instances()) == 2, "the broken one was drained"


def test_restarts_without_success_are_a_failure_but_a_registry_that_is_away_is_not(world: World) -> None:
    world.commit(app(web=process("v1")))
    world.run_pass()
    (row,) = world.instances()
    world.report(row["instance_id"], "failed", reason_code="registry_unreachable", restarts=50)
    world.run_pass()
    assert world.deployment()["status"] == "rolling"
    world.report(row["instance_id"], "failed", reason_code="process_exited", restarts=2)
    world.run_pass()
    assert world.deployment()["status"] == "rolling"
    world.report(row["instance_id"], "failed", reason_code="process_exited", restarts=3, exit_code=1)
    world.run_pass()
    assert world.deployment()["status"] == "failed"


def test_not_ready_within_start_timeout_is_a_failure(world: World) -> None:
    world.commit(app(web=process("v1", update=UpdatePolicy(start_timeout_s=30))))
    (allocated,) = world.run_pass().allocate
    world.advance(100)
    world.run_pass()
    assert world.deployment()["status"] == "rolling", "the image may be large: the clock runs from the boot on"
    world.report(allocated.instance_id, "booting")
    actions = world.run_pass()
    assert actions.wake_at_s == world.now_s + 30
    world.advance(30)
    world.run_pass()
    assert world.deployment()["status"] == "failed"
    assert "start_timeout" in world.deployment()["message"]


def test_a_failed_deployment_is_tried_again_a_few_times_only(world: World) -> None:
    world.commit(app(web=process("v1")))
    world.settle()
    world.commit(app(web=process("v2")))
    world.settle(never_ready=["v2"])
    begun, tries = world.now_s, []
    for _ in range(120):
        world.advance(10)
        if world.run_pass().allocate:
            tries.append(world.now_s - begun)
        world.settle(never_ready=["v2"])
    assert tries == [60, 180, 420]
    assert _images(world) == ["v1"]


def test_a_failed_deployment_may_still_succeed(world: World) -> None:
    world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    world.commit(app(web=process("v2", replicas=2)))
    world.settle(never_ready=["v2"])
    for _ in range(12):
        world.advance(10)
        world.settle()
    assert _images(world) == ["v2", "v2"]
    assert world.deployment()["status"] == "succeeded"


def test_an_old_instance_that_crashes_while_a_rollout_is_broken_is_kept(world: World) -> None:
    world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    world.commit(app(web=process("v2", replicas=2)))
    world.settle(never_ready=["v2"])
    crashed = world.ready()[0]["instance_id"]
    world.report(crashed, "failed", reason_code="process_exited")
    assert len(world.run_pass()) == 0
    world.report(crashed, "ready")
    assert len(world.ready()) == 2


def test_the_next_good_release_goes_through_after_a_bad_one(world: World) -> None:
    world.commit(app(web=process("v1", replicas=2)))
    world.settle()
    world.commit(app(web=process("v2", replicas=2)))
    world.run_pass()
    world.agents_act(["v2"])  # broken, and not even drained yet
    world.commit(app(web=process("v3", replicas=2)))
    world.settle(never_ready=["v2"])
    assert _images(world) == ["v3", "v3"]
    assert world.deployment()["status"] == "succeeded"


def test_the_next_good_release_goes_through_after_a_bad_first_one(world: World) -> None:
    world.commit(app(web=process("v1", replicas=2)))
    world.settle(never_ready=["v1"])
    assert world.deployment()["status"] == "failed"
    assert len(world.instances(desired="running")) == 2, "nothing else serves, so its agents keep trying"
    world.commit(app(web=process("v2", replicas=2)))
    world.settle(never_ready=["v1"])
    assert _images(world) == ["v2", "v2"]


def test_a_newer_deployment_supersedes(world: World) -> None:
    world.commit(app(web=process("v1")))
    first = world.deployment()["deployment_id"]
    world.run_pass()
    world.commit(app(web=process("v2")))
    world.settle()
    assert world.views["deployments"][first]["status"] == "superseded"
    assert world.deployment()["status"] == "succeeded"


def test_going_back_to_an_earlier_commit_reuses_its_release_and_its_instances(world: World) -> None:
    world.commit(app(web=process("v1")))
    world.settle()
    kept = world.ready()[0]["instance_id"]
    world.commit(app(web=process("v2")))
    world.settle(never_ready=["v2"])
    world.commit(app(web=process("v1")))
    world.settle(never_ready=["v2"])
    assert world.deployment()["kind"] == "rollback"
    assert world.deployment()["status"] == "succeeded"
    assert [row["instance_id"] for row in world.ready()] == [kept]


def test_a_new_version_of_a_secret_rolls_the_processes_that_use_it(world: World) -> None:
    world.commit(secret("1"), app(web=process(secrets=("keys",)), worker=process()))
    world.settle()
    web, worker = world.ready("web")[0], world.ready("worker")[0]
    commit = world.commit(secret("2"))
    assert world.deployment()["reason"] == "secret"
    world.settle()
    assert world.ready("worker")[0]["instance_id"] == worker["instance_id"]
    (fresh,) = world.ready("web")
    assert fresh["workload"]["secret"]["version_id"] != web["workload"]["secret"]["version_id"]
    cause = next(each.cause for each in world.events if each.aggregate_id == fresh["instance_id"])
    assert (cause.path, cause.commit, cause.correlation_id) == ("secrets/keys.yaml", commit, f"{SOURCE}@{commit}")


def test_without_its_secret_a_process_is_unschedulable_and_runs_on(world: World) -> None:
    world.commit(secret("1"), app(web=process(secrets=("keys",))))
    world.settle()
    world.commit(remove=[secret("1").id])
    actions = world.run_pass()
    assert [each.reason for each in actions.unschedulable] == ["secrets_missing"]
    assert not actions.drain
    assert len(world.run_pass()) == 0, "said once"
    world.commit(secret("2"))
    assert [each.process for each in world.run_pass().schedulable] == ["web"]


def test_a_revision_converges_when_its_deployments_have(world: World) -> None:
    commit = world.commit(app(web=process("v1")))
    world.run_pass()
    assert world.views["revisions"][f"{SOURCE}@{commit}"]["status"] == "applied"
    world.advance(5)
    world.settle()
    row = world.views["revisions"][f"{SOURCE}@{commit}"]
    assert (row["status"], row["seconds"]) == ("converged", 5.0)


def test_a_revision_that_only_scales_converges_when_the_instances_are_there(world: World) -> None:
    world.commit(app(web=process()))
    world.settle()
    commit = world.commit(app(web=process(replicas=3)))
    world.run_pass()
    world.run_pass()
    assert world.views["revisions"][f"{SOURCE}@{commit}"]["status"] == "applied"
    world.settle()
    assert world.views["revisions"][f"{SOURCE}@{commit}"]["status"] == "converged"


def revision_events(world: World, commit: str) -> list[str]:
    mine = [event for event in world.events if event.aggregate_id == f"{SOURCE}@{commit}"]
    return [event.event_type.removeprefix("revision.") for event in mine]


def test_a_revision_whose_release_is_broken_fails_once_and_names_the_app(world: World) -> None:
    commit = world.commit(app(web=process("v1")))
    world.settle(never_ready=["v1"])
    world.run_pass()
    assert revision_events(world, commit) == ["applied", "failed"]
    row = world.views["revisions"][f"{SOURCE}@{commit}"]
    assert row["status"] == "failed" and row["message"].startswith("prod/app/site: ")
    (told,) = [event.payload for event in world.events if event.event_type == "revision.failed"]
    assert (told["reason"], [each["app"] for each in told["deployments"]]) == ("deployment_failed", [str(app_id())])


def test_a_failed_revision_may_still_converge(world: World) -> None:
    commit = world.commit(app(web=process("v1")))
    world.settle(never_ready=["v1"])
    world.advance(RETRY_FIRST_S + 1)
    world.settle()
    assert revision_events(world, commit) == ["applied", "failed", "converged"]
    assert "message" not in world.views["revisions"][f"{SOURCE}@{commit}"]


def test_a_revision_that_takes_too_long_fails_and_says_what_is_missing(world: World) -> None:
    for node in ("node-a", "node-b"):
        world.node_state(node, "offline")
    commit = world.commit(app(web=process("v1")))
    world.settle()
    world.advance(CONVERGENCE_LIMIT_S - 1)
    world.settle()
    assert revision_events(world, commit) == ["applied"]
    world.advance(1)
    world.settle()
    assert revision_events(world, commit) == ["applied", "failed"]
    told = world.events[-1].payload
    assert (told["reason"], told["message"]) == ("not_converged", "it takes too long: prod/app/site")
    world.node_state("node-a", "active")
    world.settle()
    assert revision_events(world, commit) == ["applied", "failed", "converged"]


def test_time_in_which_an_operator_holds_it_back_does_not_make_a_revision_late(world: World) -> None:
    world.commit(app(web=process("v1")))
    world.settle()
    world.act(Suspend("env/prod"))
    commit = world.commit(app(web=process("v2")))
    world.settle()
    world.advance(10 * CONVERGENCE_LIMIT_S)
    world.settle()
    assert revision_events(world, commit) == ["applied"]
    world.act(Resume("env/prod"))
    world.run_pass()
    assert revision_events(world, commit) == ["applied"], "its clock begins now"
    world.settle()
    assert revision_events(world, commit) == ["applied", "converged"]


def test_a_newer_revision_tells_those_before_it_that_they_are_over(world: World) -> None:
    done = world.commit(app(web=process("v1")))
    world.settle()
    slow, broken = world.commit(app(web=process("v2"))), world.commit(app(web=process("v3")))
    world.settle(never_ready=["v3"])
    newest = world.commit(app(web=process("v4")))
    world.settle()
    assert revision_events(world, done) == ["applied", "converged"]
    assert revision_events(world, slow) == ["applied", "superseded"]
    assert revision_events(world, broken) == ["applied", "failed", "superseded"]
    assert revision_events(world, newest) == ["applied", "converged"]
    rows = world.views["revisions"]
    told = [(rows[f"{SOURCE}@{each}"]["superseded_by"], rows[f"{SOURCE}@{each}"]["was"]) for each in (slow, broken)]
    assert told == [(broken, "applied"), (newest, "failed")]
