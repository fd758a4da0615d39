"""The real actors over fake drivers: what is done, in which order, and what is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.model import Exit
from kit.errors import Refusal, Transient
from kit.wire import Health, InstanceReport, Mount, PlannedVolume, SecretRef
from tests.unit.agent.conftest import StartAgent
from tests.unit.agent.parts import World, instance, plan


async def test_up_and_down(world: World, start_agent: StartAgent) -> None:
    agent = start_agent()
    await agent.node.apply(plan(1, instance()))
    await agent.until(lambda: "ready" in agent.statuses())
    await agent.node.apply(plan(2, instance(desired="draining")))
    await agent.until(lambda: "stopped" in agent.statuses())
    assert agent.statuses() == ["preparing", "booting", "ready", "draining", "stopped"]
    assert (world.live(), world.network.made, world.volumes.layers, world.cgroups.made) == (set(), set(), set(), set())
    await agent.node.apply(plan(3))
    await agent.until(lambda: not agent.ledger.instances)
    counters = [report.counter for report in agent.reporter.waiting]
    assert counters == sorted(set(counters))


async def test_stopped_at_once_says_draining_first(world: World, start_agent: StartAgent) -> None:
    agent = start_agent()
    await agent.node.apply(plan(1, instance(grace_s=60.0)))
    await agent.until(lambda: "ready" in agent.statuses())
    await agent.node.apply(plan(2, instance(desired="stopped", grace_s=60.0)))
    await agent.until(lambda: "stopped" in agent.statuses())
    assert agent.statuses()[-2:] == ["draining", "stopped"]


async def test_a_new_agent_adopts_and_says_nothing(world: World, start_agent: StartAgent) -> None:
    first = start_agent()
    await first.node.apply(plan(1, instance()))
    await first.until(lambda: "ready" in first.statuses())
    told = first.told
    await first.end()
    second = start_agent()
    await asyncio.sleep(0.1)
    await second.node.apply(plan(2, instance()))
    await asyncio.sleep(0.1)
    assert world.machines.boots == [("i-1", 1)]
    assert second.told == told


async def test_without_a_controller_a_crash_is_restarted(world: World, start_agent: StartAgent) -> None:
    first = start_agent()
    await first.node.apply(plan(1, instance()))
    await first.until(lambda: "ready" in first.statuses())
    await first.end()
    second = start_agent()  # it has no plan but the one on its disk
    world.machines.die("i-1", Exit("process_exited", "the process exited with code 3", 3))
    await second.until(lambda: second.statuses().count("ready") == 2)
    failed = next(r for r in second.reporter.waiting if isinstance(r, InstanceReport) and r.status == "failed")
    assert (failed.reason_code, failed.exit_code) == ("process_exited", 3)
    assert second.ledger.instances["i-1"].restarts == 1


async def test_the_kernel_killing_for_memory_is_told_as_such(world: World, start_agent: StartAgent) -> None:
    agent = start_agent()
    await agent.node.apply(plan(1, instance()))
    await agent.until(lambda: "ready" in agent.statuses())
    world.cgroups.oom_kills = 1
    world.machines.die("i-1")
    await agent.until(lambda: ("i-1", "failed", "oom_killed") in agent.told)


async def test_a_damaged_record_costs_only_itself(world: World, start_agent: StartAgent, tmp_path: Path) -> None:
    first = start_agent()
    await first.node.apply(plan(1, instance("i-1"), instance("i-2")))
    await first.until(lambda: {"i-1", "i-2"} <= {name for name, status, _ in first.told if status == "ready"})
    await first.end()
    torn = sorted((tmp_path / "ledger" / "instances").glob("*.json"))[0]
    torn.write_bytes(torn.read_bytes()[:20])
    second = start_agent()
    await asyncio.sleep(0.2)
    assert len(world.machines.boots) == 2, "what lives is adopted, not started again"
    assert torn.with_suffix(".damaged").exists()
    assert len(second.ledger.instances) == 2


async def test_a_torn_plan_leaves_everything_running(world: World, start_agent: StartAgent, tmp_path: Path) -> None:
    first = start_agent()
    await first.node.apply(plan(1, instance()))
    await first.until(lambda: "ready" in first.statuses())
    await first.end()
    (tmp_path / "ledger" / "plan.json").write_text("{")
    second = start_agent()
    world.machines.die("i-1")
    await second.until(lambda: second.statuses().count("ready") == 2)


async def test_one_bad_image_blocks_nobody(world: World, start_agent: StartAgent) -> None:
    bad = "registry.test/bad@sha256:" + "00" * 32
    world.images.errors[bad] = Refusal("pull", "the digest is another", code="image_digest_mismatch")
    agent = start_agent(boots_max=1)
    await agent.node.apply(plan(1, instance("i-bad", image=bad), instance("i-good")))
    await agent.until(lambda: "ready" in agent.statuses("i-good"))
    await agent.until(lambda: ("i-bad", "failed", "image_digest_mismatch") in agent.told)
    record = agent.ledger.instances["i-bad"]
    assert record.retry_at_s is not None
    assert record.retry_at_s - record.failure_times_s[-1] >= 60.0, "a mismatch is retried only slowly"


async def test_a_slow_pull_is_given_up_when_it_is_not_wanted(world: World, start_agent: StartAgent) -> None:
    world.images.gate = asyncio.Event()
    agent = start_agent()
    await agent.node.apply(plan(1, instance()))
    await agent.until(lambda: "preparing" in agent.statuses())
    await agent.node.apply(plan(2, instance(desired="stopped")))
    await agent.until(lambda: "stopped" in agent.statuses())
    assert world.machines.boots == []


async def test_at_most_so_many_machines_boot_at_once(world: World, start_agent: StartAgent) -> None:
    world.machines.starts_guests = False
    agent = start_agent(boots_max=2)
    await agent.node.apply(plan(1, *(instance(f"i-{number}") for number in range(5))))
    await agent.until(lambda: len(world.machines.boots) == 2)
    await asyncio.sleep(0.1)
    assert len(world.machines.boots) == 2
    for number in range(3, 6):
        waiting = [key for key, machine in world.machines.machines.items() if not machine.started]
        world.machines.guest_started(waiting[0])
        await agent.until(lambda number=number: len(world.machines.boots) == number)  # type: ignore[misc]  # bound now
    for key in list(world.machines.machines):
        world.machines.guest_started(key)
    await agent.until(lambda: len({name for name, status, _ in agent.told if status == "ready"}) == 5)


async def test_a_guest_that_never_starts_is_killed_and_tried_again(world: World, start_agent: StartAgent) -> None:
    world.machines.starts_guests = False
    agent = start_agent()
    await agent.node.apply(plan(1, instance(start_timeout_s=0.2)))
    await agent.until(lambda: ("i-1", "failed", "start_timeout") in agent.told)
    world.machines.starts_guests = True
    await agent.until(lambda: "ready" in agent.statuses())


async def test_a_guest_that_does_not_obey_is_killed(
    world: World, start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.actors.KILL_AFTER_S", 0.2)
    agent = start_agent()
    await agent.node.apply(plan(1, instance()))
    await agent.until(lambda: "ready" in agent.statuses())
    world.machines.machines["i-1"].obeys = False
    await agent.node.apply(plan(2, instance(desired="stopped")))
    await agent.until(lambda: "stopped" in agent.statuses())
    assert world.live() == set()


async def test_a_check_that_never_passes_is_a_failed_start(world: World, start_agent: StartAgent) -> None:
    closed = Health("tcp", 1, interval_s=0.05, timeout_s=0.05, grace_s=0.0)
    agent = start_agent()
    await agent.node.apply(plan(1, instance(health=closed, address="::1", start_timeout_s=0.5)))
    await agent.until(lambda: ("i-1", "failed", "healthcheck_failed") in agent.told)


async def test_ready_unready_ready(world: World, start_agent: StartAgent) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "::1", 0)
    port = server.sockets[0].getsockname()[1]
    check = Health("tcp", port, interval_s=0.03, timeout_s=0.2, failures=2)
    agent = start_agent()
    await agent.node.apply(plan(1, instance(health=check, address="::1")))
    await agent.until(lambda: "ready" in agent.statuses())
    server.close()
    await agent.until(lambda: ("i-1", "unready", "healthcheck_failed") in agent.told)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "::1", port)
    await agent.until(lambda: agent.statuses()[-1] == "ready")
    server.close()
    assert world.machines.boots == [("i-1", 1)], "an unready machine is not restarted"


async def test_missing_secrets_are_told_and_tried_again(world: World, start_agent: StartAgent) -> None:
    world.secrets.error = Transient("get secret", "the controller is away", code="secrets_missing")
    agent = start_agent()
    await agent.node.apply(plan(1, instance(secret=SecretRef("v-1"))))
    await agent.until(lambda: ("i-1", "failed", "secrets_missing") in agent.told)
    world.secrets.error = None
    await agent.until(lambda: "ready" in agent.statuses())


async def test_a_greater_epoch_replaces_the_machine(world: World, start_agent: StartAgent) -> None:
    agent = start_agent()
    await agent.node.apply(plan(1, instance(epoch=1)))
    await agent.until(lambda: "ready" in agent.statuses())
    await agent.node.apply(plan(2, instance(epoch=2)))
    await agent.until(lambda: agent.statuses().count("ready") == 2)
    assert world.machines.boots == [("i-1", 1), ("i-1", 2)]
    await agent.node.apply(plan(3, instance(epoch=1)))
    await asyncio.sleep(0.1)
    assert world.machines.boots == [("i-1", 1), ("i-1", 2)]


async def test_an_older_plan_is_refused(world: World, start_agent: StartAgent) -> None:
    agent = start_agent()
    await agent.node.apply(plan(5, instance()))
    await agent.until(lambda: "ready" in agent.statuses())
    await agent.node.apply(plan(4, instance(desired="stopped")))
    await agent.node.apply(replace(plan(6, instance(desired="stopped")), node_id="node-b"))
    await asyncio.sleep(0.1)
    assert world.live() == {"i-1"}


async def test_what_cannot_be_seen_is_left_alone(world: World, start_agent: StartAgent) -> None:
    agent = start_agent()
    await agent.node.apply(plan(1, instance()))
    await agent.until(lambda: "ready" in agent.statuses())
    world.machines.unseen.add("i-1")
    agent.node.wake("i-1")
    await agent.node.apply(plan(2, instance(desired="stopped")))
    await asyncio.sleep(0.1)
    assert world.machines.boots == [("i-1", 1)]
    assert agent.statuses()[-1] == "ready"
    world.machines.unseen.clear()
    await agent.until(lambda: "stopped" in agent.statuses())


async def test_a_volume_is_kept_until_its_tombstone(world: World, start_agent: StartAgent) -> None:
    volume = PlannedVolume("o/p/e/a/volume/d", "d", 1 << 20, "present")
    user = instance(mounts=(Mount(volume.volume_id, "/data"),))
    agent = start_agent()
    await agent.node.apply(plan(1, user, volumes=(volume,)))
    await agent.until(lambda: "ready" in agent.statuses())
    assert agent.ledger.volumes[volume.volume_id].writer == "i-1"
    await agent.node.apply(plan(2, user, volumes=(replace(volume, desired="deleted"),)))
    await asyncio.sleep(0.1)
    assert world.volumes.deleted == [], "a machine has it open"
    await agent.node.apply(plan(3))
    await agent.until(lambda: not agent.ledger.instances)
    assert world.volumes.there == {volume.volume_id}, "a plan's silence deletes nothing"
    await agent.node.apply(plan(4, volumes=(replace(volume, desired="deleted"),)))
    await agent.until(lambda: world.volumes.deleted == [volume.volume_id])
    await agent.node.apply(plan(5))
    await agent.until(lambda: not agent.ledger.volumes)


async def test_a_job_ends_and_is_not_run_again(world: World, start_agent: StartAgent) -> None:
    agent = start_agent()
    await agent.node.apply(plan(1, instance(restart="on-failure")))
    await agent.until(lambda: "ready" in agent.statuses())
    world.machines.die("i-1", Exit("process_exited", "the process exited with code 0", 0))
    await agent.until(lambda: "stopped" in agent.statuses())
    await agent.end()
    again = start_agent()
    await again.node.apply(plan(2, instance(restart="on-failure")))
    await asyncio.sleep(0.1)
    assert world.machines.boots == [("i-1", 1)]
