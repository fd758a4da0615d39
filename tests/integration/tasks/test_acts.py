"""Operators' acts on real Postgres: one effect per key, nothing behind their back, and their end."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest

from kit.clock import SystemClock
from kit.errors import Refusal, Transient
from reconciler.core.acts import Act, Hold, Order, Resume, SetDuty, StopInstance, Suspend
from reconciler.core.commands import Append, Conflict, Fence
from reconciler.core.decide.git import GitState, decide_revision
from reconciler.core.replay import replay
from reconciler.core.revisions import Refused
from reconciler.core.scheduler.schedule import schedule
from reconciler.core.scheduler.snapshot import VIEWS, read_snapshot
from reconciler.core.scheduler.times import Times
from reconciler.handlers.acts import Done, decide
from reconciler.handlers.revisions import GIT_VIEWS
from reconciler.tasks.expiry import Expiry
from tests.integration.tasks.controller import Controller
from tests.unit.scheduler.world import app, process

SITE = "prod/site"
DRAIN = SetDuty("node-a", "draining")


@dataclass
class WallClock(SystemClock):
    """Its wall time is set by hand; it has nothing to do with the monotonic one."""

    at: str = "2026-01-01T12:00:00.000Z"

    def utc(self) -> str:
        return self.at


async def do(controller: Controller, act: Act, *, until: str = "", key: str = "", body: str = "body") -> Done:
    order = Order(key or f"test/{next(controller.counters)}", body, "user", "operator:ann", "an incident", until)
    done = await controller.handlers.act(act, order)
    await controller.caught_up()
    return done


async def site(controller: Controller, replicas: int = 2) -> None:
    for node_id in ("node-a", "node-b"):
        await controller.enrol(node_id)
    await controller.commit(app(web=process("v1", replicas=replicas)))
    await controller.settle()


async def images(controller: Controller) -> list[str]:
    return sorted(row["workload"]["image"][-2:] for row in (await controller.rows("instances")).values())


async def test_one_effect_per_key_also_of_two_controllers_at_once(controller: Controller) -> None:
    await site(controller)
    other = controller.another()
    order = Order("ops/key-1", "body", "user", "operator:ann", "new disks")
    done = await asyncio.gather(*(each.handlers.act(DRAIN, order) for each in (controller, other) * 6))
    assert len(await controller.events("node.duty_changed")) == 1
    assert all(each.events == done[0].events for each in done), "everybody gets the same answer"
    again = await other.handlers.act(DRAIN, order)
    assert (again.replayed, again.events) == (True, done[0].events)
    for act, body in ((DRAIN, "another body"), (SetDuty("node-b", "draining"), "another")):
        with pytest.raises(Refusal) as caught:
            await do(controller, act, key="ops/key-1", body=body)
        assert caught.value.code == "idempotency_key_reuse"
    assert len(await controller.events("node.duty_changed")) == 1


async def test_what_the_scheduler_decided_before_an_act_is_decided_anew(controller: Controller) -> None:
    """Paused between its decision and its append: the removal that it decided on is not carried out any more."""
    await site(controller)
    await controller.commit(app(web=process("v2", replicas=1)))
    await controller.caught_up()
    views = await controller.store.views.snapshot(VIEWS)
    snapshot = read_snapshot(views.rows, views.event_id)
    old = schedule(snapshot, Times().observe(snapshot, 0.0), lambda: "i-old", 0.0)
    assert len(old) > 0
    await do(controller, Suspend(SITE))
    before = await controller.store.log.head()
    assert (await controller.handlers.apply_schedule(old, views.event_id)).stale
    assert await controller.store.log.head() == before
    await controller.settle()
    assert await images(controller) == ["v1", "v1"]
    await do(controller, Resume(SITE))
    await controller.settle()
    assert await images(controller) == ["v2"]


async def test_no_commit_gets_past_the_suspension_of_its_source(controller: Controller) -> None:
    await site(controller)
    revision, commands = await controller.revision(app(web=process("v2")))
    rows = (await controller.store.views.snapshot(GIT_VIEWS)).rows
    state = GitState(rows["resources"], rows["releases"], rows["deployments"], None, rows["sources"]["main"])
    decided = decide_revision(state, revision, commands)
    assert not isinstance(decided, Refused)
    await do(controller, Suspend("source/main"))
    results = await controller.store.log.append(decided)
    assert isinstance(results[0], Conflict), "decided before, appended after"
    assert results[0].subject == "suspension/source/main"
    with pytest.raises(Transient) as caught:
        await controller.handlers.submit_revision(revision, commands)
    assert caught.value.code == "source_suspended"
    assert len(await controller.events("revision.applied")) == 1
    await do(controller, Resume("source/main"))
    await controller.handlers.submit_revision(revision, commands)
    await do(controller, Suspend("source/main"))
    await do(controller, Resume("source/main"))
    await controller.commit(app(web=process("v3")))
    await controller.settle()
    assert await images(controller) == ["v3"]


async def test_a_hold_that_was_decided_before_a_commit_does_not_defy_it(controller: Controller) -> None:
    await site(controller)
    first = str((await controller.rows("resources"))["acme/shop/prod/site/app/site"]["release_id"])
    await controller.commit(app(web=process("v2", replicas=2)))
    await controller.caught_up()
    rows = (await controller.store.views.snapshot(("instances", "releases", "resources"))).rows
    late = decide(Hold(SITE, first), Order("ops/late", "body", "user", "operator:ann", "an incident"), rows)
    assert isinstance(late, Append)
    await controller.commit(app(web=process("v3", replicas=2)))
    (result,) = await controller.store.log.append([late])
    assert isinstance(result, Conflict)
    assert result.kind == "version"


async def test_a_commit_and_a_hold_at_once_leave_no_hold_against_the_new_commit(controller: Controller) -> None:
    """Whichever comes first: a hold defies what Git said before it, never what Git says after it."""
    await site(controller)
    first = str((await controller.rows("resources"))["acme/shop/prod/site/app/site"]["release_id"])
    await controller.commit(app(web=process("v2", replicas=2)))
    await controller.settle()
    revision, commands = await controller.revision(app(web=process("v3", replicas=2)))
    await asyncio.gather(
        do(controller, Hold(SITE, first)), controller.another().handlers.submit_revision(revision, commands)
    )
    row = (await controller.rows("resources"))["acme/shop/prod/site/app/site"]
    held = row.get("hold")
    if held:
        events = [event.event_type for event in await controller.events()]
        assert events.index("app.held") > len(events) - 1 - events[::-1].index("app.updated")
        assert held["defied_commit"] == revision.commit
    await controller.settle()
    assert await images(controller) == (["v1"] * 2 if held else ["v3"] * 2)


async def test_a_stopped_instance_gives_back_what_it_held(controller: Controller) -> None:
    await site(controller)
    instance_id = sorted(await controller.rows("instances"))[0]
    await do(controller, StopInstance(instance_id))
    await controller.settle()
    rows = await controller.rows("instances")
    assert instance_id not in rows
    assert len(rows) == 2


# --- the end of an act


async def test_an_act_with_an_end_ends_by_an_event_when_its_time_has_come(controller: Controller) -> None:
    await site(controller)
    first = str((await controller.rows("resources"))["acme/shop/prod/site/app/site"]["release_id"])
    await controller.commit(app(web=process("v2", replicas=2)))
    await controller.settle()
    until = "2026-01-01T13:00:00Z"
    for act in (DRAIN, Suspend("source/main"), Suspend("env/prod"), Hold(SITE, first)):
        await do(controller, act, until=until)
    await do(controller, SetDuty("node-b", "draining"))
    clock = WallClock()
    expiry = Expiry(controller.handlers, controller.store.views, clock, random.Random(1))
    for clock.at in ("2026-01-01T12:00:00Z", "2026-01-01T12:59:59.999Z"):
        await expiry.look()
        assert len(await controller.rows("acts")) == 5
    for clock.at in ("2026-01-01T13:00:00Z", "2026-01-02T00:00:00Z"):
        await expiry.look()
        assert list(await controller.rows("acts")) == ["node/node-b"], "which has no end of its own"
    ended = [event for event in await controller.events() if event.cause.actor_id == "acts"]
    assert sorted(event.event_type for event in ended) == [
        "app.hold_ended",
        "deployment.created",
        "node.duty_changed",
        "suspension.ended",
        "suspension.ended",
    ]
    assert {event.cause.actor_type for event in ended} == {"system"}
    await do(controller, SetDuty("node-b", "active"))
    await controller.settle()
    assert await images(controller) == ["v2"] * 2


async def test_an_act_said_anew_with_a_later_end_is_not_ended_at_the_earlier(controller: Controller) -> None:
    await site(controller)
    await do(controller, DRAIN, until="2026-01-01T12:10:00Z")
    await do(controller, DRAIN, until="2026-01-01T12:20:00Z")
    clock = WallClock(at="2026-01-01T12:15:00Z")
    expiry = Expiry(controller.handlers, controller.store.views, clock, random.Random(1))
    await expiry.look()
    assert list(await controller.rows("acts")) == ["node/node-a"]


async def test_a_leader_whose_term_is_over_ends_nothing(controller: Controller) -> None:
    await site(controller)
    await do(controller, DRAIN, until="2026-01-01T11:00:00Z")
    leases = controller.store.leases
    old = Fence("acts", await leases.acquire("acts", 60.0) or 0)
    await leases.release("acts", old.epoch)
    new = Fence("acts", await leases.acquire("acts", 60.0) or 0)
    expiry = Expiry(controller.handlers, controller.store.views, WallClock(), random.Random(1))
    await expiry.look(old)
    assert list(await controller.rows("acts")) == ["node/node-a"]
    await expiry.look(new)
    assert await controller.rows("acts") == {}


async def test_one_act_that_cannot_be_ended_stops_only_itself(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site(controller)
    for drain in (DRAIN, SetDuty("node-b", "draining")):
        await do(controller, drain, until="2026-01-01T11:00:00Z")
    record = controller.handlers.act

    async def refuses_one(wanted: Act, order: Order, fence: Fence | None = None) -> Done:
        if wanted == SetDuty("node-a", "active"):
            raise Transient("end it", "not now")
        return await record(wanted, order, fence)

    monkeypatch.setattr(controller.handlers, "act", refuses_one)
    expiry = Expiry(controller.handlers, controller.store.views, WallClock(), random.Random(1))
    await expiry.look()
    assert list(await controller.rows("acts")) == ["node/node-a"]


async def test_the_loop_looks_by_itself_and_ends_when_told(controller: Controller) -> None:
    await site(controller)
    await do(controller, DRAIN, until="2026-01-01T11:00:00Z")
    expiry = Expiry(controller.handlers, controller.store.views, WallClock(), random.Random(1), look_every_s=0.05)
    stop = asyncio.Event()
    running = asyncio.create_task(expiry.run(stop))
    async with asyncio.timeout(10):
        while await controller.rows("acts"):
            await asyncio.sleep(0.02)
        stop.set()
        await running


async def test_rebuilt_views_show_the_same_acts(controller: Controller) -> None:
    await site(controller)
    await do(controller, DRAIN)
    await do(controller, Suspend(SITE))
    await do(controller, Suspend("source/main"))
    await controller.settle()
    stored = {view: await controller.rows(view) for view in ("acts", "nodes", "sources", "resources")}
    folded = replay(await controller.events())
    assert stored == {view: folded[view] for view in stored}
