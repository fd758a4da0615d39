"""The scheduler's loop on real Postgres."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from kit.errors import Transient
from reconciler.core.commands import Fence
from reconciler.core.findings import Finding
from reconciler.core.revisions import RevisionRefused
from reconciler.core.scheduler.schedule import schedule
from reconciler.core.scheduler.snapshot import VIEWS, read_snapshot
from reconciler.core.scheduler.times import Times
from tests.integration.tasks.controller import Controller, eventually
from tests.unit.decide.test_git import route
from tests.unit.scheduler.world import app, process, secret, volume, web_port


async def test_from_a_commit_to_converged_and_then_silence(controller: Controller) -> None:
    await controller.enrol("node-a")
    await controller.enrol("node-b")
    web = process(replicas=2, secrets=("keys",), ports=web_port())
    commit = await controller.commit(secret("1"), app(web=web), route())
    await controller.settle()
    row = (await controller.rows("revisions"))[f"main@{commit}"]
    assert row["status"] == "converged"
    allocated = await controller.events("instance.allocated")
    assert {event.cause.correlation_id for event in allocated} == {f"main@{commit}"}
    assert {event.cause.path for event in allocated} == {"apps/site.yaml"}
    head = await controller.store.log.head()
    await controller.scheduler.one_pass()
    assert await controller.store.log.head() == head


async def test_a_rollout_and_its_return(controller: Controller) -> None:
    await controller.enrol("node-a")
    await controller.commit(app(web=process("v1", replicas=2)))
    await controller.settle()
    await controller.commit(app(web=process("v2", replicas=2)))
    await controller.settle()
    images = {row["workload"]["image"][-2:] for row in (await controller.rows("instances")).values()}
    assert images == {"v2"}
    await controller.commit(app(web=process("v1", replicas=2)))
    await controller.settle()
    kinds = [event.payload["kind"] for event in await controller.events("deployment.created")]
    assert kinds == ["deploy", "deploy", "rollback"]
    statuses = [event.payload["status"] for event in await controller.events("deployment.status_changed")]
    assert statuses == ["succeeded"] * 3


async def test_of_two_schedulers_that_decide_on_the_same_state_one_gets_through(controller: Controller) -> None:
    """A leader that was paused before its append comes back with an old decision."""
    await controller.enrol("node-a", memory_mib=1536)
    await controller.commit(app("first", web=process()))
    await controller.scheduler.one_pass()
    paused = controller.another()
    await controller.commit(app("second", web=process(replicas=2)))
    old, event_id = await _decision(paused)
    await controller.scheduler.one_pass()
    assert (await paused.handlers.apply_schedule(old, event_id)).stale
    assert (await paused.handlers.apply_schedule(old, event_id)).stale, "and stays so, however often it is tried"
    assert len(await controller.events("instance.allocated")) == 3


async def test_a_leader_whose_term_is_over_writes_nothing(controller: Controller) -> None:
    """Paused between its decision and its append, until another one has begun: on whatever picture it stands."""
    await controller.enrol("node-a")
    await controller.commit(app(web=process(replicas=2)))
    leases = controller.store.leases
    old = Fence("scheduler", await leases.acquire("scheduler", 60.0) or 0)
    actions, event_id = await _decision(controller)
    await leases.release("scheduler", old.epoch)
    new = Fence("scheduler", await leases.acquire("scheduler", 60.0) or 0)
    before = await controller.store.log.head()
    for _ in range(2):
        with pytest.raises(Transient) as caught:
            await controller.handlers.apply_schedule(actions, event_id, old)
        assert caught.value.code == "lease_lost"
    with pytest.raises(Transient):
        await controller.handlers.set_node_state("node-a", "offline", "test", old)
    revision, commands = await controller.revision(volume())
    with pytest.raises(Transient):
        await controller.handlers.submit_revision(revision, commands, old)
    finding = Finding("a.yaml", 1, 1, "", "manifest_invalid", "it is wrong")
    refusal = RevisionRefused("refuse-1", revision.cause, "main", revision.commit, "", "ann", "x", findings=(finding,))
    with pytest.raises(Transient):
        await controller.handlers.refuse_revision(refusal, old)
    assert await controller.store.log.head() == before
    await controller.handlers.apply_schedule(actions, event_id, new)
    assert len(await controller.events("instance.allocated")) == 2


async def _decision(controller: Controller) -> tuple[Any, int]:
    await controller.caught_up()
    views = await controller.store.views.snapshot(VIEWS)
    names = iter(f"i-old{number}" for number in range(99))
    actions = schedule(read_snapshot(views.rows, views.event_id), Times(), lambda: next(names), 0.0)
    assert len(actions.allocate) == 2
    return actions, views.event_id


async def test_two_schedulers_at_once_never_allocate_twice(controller: Controller) -> None:
    await controller.enrol("node-a", memory_mib=1 << 14)
    other = controller.another()
    for round_number in range(5):
        await controller.commit(app(f"app{round_number}", web=process(replicas=3)))
        await asyncio.gather(
            *(each.scheduler.one_pass() for each in (controller, other) for _ in range(3)), return_exceptions=True
        )
    await controller.settle()
    assert len(await controller.rows("instances")) == 15
    assert len(await controller.events("instance.allocated")) == 15


async def test_a_claim_that_stands_against_one_action_stops_only_that(controller: Controller) -> None:
    await controller.enrol("node-a")
    await controller.commit(app(web=process(replicas=2)))
    decision, event_id = await _decision(controller)
    taken = decision.allocate[0].address
    pool = controller.store.log._pool
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO claims (kind, key, owner, event_id) VALUES ('address', $1, 'i-ghost', 1)", taken
        )
    await controller.handlers.apply_schedule(decision, event_id)
    assert [event.aggregate_id for event in await controller.events("instance.allocated")] == ["i-old1"]
    await controller.settle()
    assert len(await controller.rows("instances")) == 2, "the next pass takes another address"


async def test_the_loop_runs_until_it_is_told_to_stop(controller: Controller) -> None:
    await controller.enrol("node-a")
    stop = asyncio.Event()
    loop = asyncio.create_task(controller.scheduler.run(stop))
    try:
        commit = await controller.commit(app(web=process(replicas=2)))

        async def converged() -> bool:
            await controller.agents_act()
            row = (await controller.rows("revisions"))[f"main@{commit}"]
            return bool(row["status"] == "converged")

        await eventually(converged, "the revision converges")
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await loop


async def test_a_scheduler_that_follows_another_one_decides_at_once(controller: Controller) -> None:
    """Its first batch is told that the chain goes on from another's; nothing new comes to wake it."""
    await controller.enrol("node-a")
    await controller.commit(app("first", web=process()))
    await controller.scheduler.one_pass()
    await controller.commit(app("second", web=process()))
    stop = asyncio.Event()
    loop = asyncio.create_task(controller.another().scheduler.run(stop))
    try:
        async with asyncio.timeout(5):
            while len(await controller.events("instance.allocated")) < 2:
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await loop


async def test_an_event_wakes_the_loop_at_once(controller: Controller) -> None:
    await controller.enrol("node-a")
    stop = asyncio.Event()
    loop = asyncio.create_task(controller.scheduler.run(stop))
    try:
        await asyncio.sleep(0.5)  # it has found nothing to do, and sleeps for its 30 s
        async with asyncio.timeout(5):
            await controller.commit(app(web=process()))
            while not await controller.events("instance.allocated"):
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
