"""Quotas, copies and illegal transitions on real Postgres: races, rebuilds, what the status says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from kit.errors import Refusal
from reconciler.core.commands import Append, Appended, Claim, Conflict
from reconciler.core.decide.copies import ask_snapshot, in_progress
from reconciler.core.events import Cause
from reconciler.core.quotas import read_quota
from reconciler.core.revisions import Refused, Submitted
from reconciler.core.scheduler.record import appends
from reconciler.core.scheduler.schedule import schedule
from reconciler.core.scheduler.snapshot import VIEWS, read_snapshot
from reconciler.core.scheduler.times import Times
from reconciler.core.views import PROJECTIONS
from reconciler.handlers.appending import Appending
from reconciler.server.status import status_document
from reconciler.store.store import Store
from tests.integration.tasks.controller import Controller
from tests.unit.projections.samples import new_event
from tests.unit.scheduler.world import ORG, app, environment, process, volume

ENV = "acme/shop/prod"


async def used(store: Store, scope: str = ENV) -> dict[str, int]:
    async with store.log._pool.acquire() as connection:
        text = await connection.fetchval("SELECT owner FROM claims WHERE kind = 'quota' AND key = $1", scope)
    return read_quota(text)[1]


async def claims_differ(store: Store) -> list[Any]:
    (found,) = await store.rebuild_views(["claims"], verify=True)
    return list(found.keys)


async def test_racing_commits_of_two_sources_cannot_go_over_together(controller: Controller) -> None:
    """Each one fits; both have seen the same views."""
    await controller.register("other")
    await controller.commit(environment(volumes=3))
    mine = await controller.revision(volume("a"), volume("b"))
    theirs = await controller.revision(volume("c"), volume("d"), source="other")
    another = controller.another()
    results = await asyncio.gather(
        controller.handlers.submit_revision(*mine), another.handlers.submit_revision(*theirs)
    )
    assert sorted(type(result).__name__ for result in results) == ["Refused", "Submitted"]
    (refused,) = [result for result in results if isinstance(result, Refused)]
    (finding,) = refused.findings
    assert (finding.code, finding.line > 0, finding.path[:8]) == ("quota_exceeded", True, "volumes/")
    assert "may have volumes 3: " in finding.message
    assert (await used(controller.store))["volumes"] == 2
    assert await claims_differ(controller.store) == []


async def test_racing_schedulers_cannot_go_over_together(controller: Controller) -> None:
    """All decided on the same picture; even if no fence stood between them the quota holds."""
    await controller.enrol("node-a")
    await controller.commit(app("one", web=process(replicas=2)), app("two", web=process(replicas=2)))
    await controller.commit(environment(instances=3))
    await controller.caught_up()
    views = await controller.store.views.snapshot(VIEWS)
    snapshot = read_snapshot(views.rows, views.event_id)

    async def allocate(number: int) -> Any:
        ids = iter(f"i-{number}-{each}" for each in range(9))
        actions = schedule(snapshot, Times(), lambda: next(ids), 1.0)
        assert len(actions.allocate) == 3, "as many as this picture leaves room for"
        return await controller.store.log.append(_appends(actions, number), atomic=False)

    results = [result for batch in await asyncio.gather(*(allocate(n) for n in range(3))) for result in batch]
    appended = [result for result in results if isinstance(result, Appended)]
    conflicts = [result for result in results if isinstance(result, Conflict)]
    assert len(appended) == 3
    assert [conflict.kind for conflict in conflicts] == ["quota"] * 6
    assert (await used(controller.store))["instances"] == 3
    assert await claims_differ(controller.store) == []


def _appends(actions: Any, number: int) -> list[Append]:
    """Allocations at addresses of their own, so that nothing but the quota stands between them."""
    moved = [replace(each, address=f"fd00::{number}:{index}") for index, each in enumerate(actions.allocate)]
    return list(appends(replace(actions, allocate=tuple(moved), unschedulable=()), number, "t"))


async def test_the_counts_survive_a_whole_life_and_a_rebuild(controller: Controller) -> None:
    store = controller.store
    await controller.enrol("node-a")
    await controller.commit(environment(instances=2, memory_bytes=1 << 30), volume())
    await controller.commit(app(web=process(replicas=2)))
    await controller.settle()
    await controller.commit(app(web=process("v2", replicas=2)))
    await controller.settle()
    assert (await used(store))["instances"] == 2
    assert await claims_differ(store) == []
    async with store.log._pool.acquire() as connection:
        await connection.execute("DELETE FROM claims WHERE kind IN ('use', 'quota')")
    assert len(await claims_differ(store)) == 7, "two instances, a volume, an app, three scopes"
    await store.rebuild_views(["claims"])
    assert await claims_differ(store) == []
    await controller.commit(remove=(app().id,))
    await controller.settle()
    assert await used(store) == {"volume_bytes": 1 << 30, "volumes": 1}
    assert await claims_differ(store) == []


async def test_a_report_and_a_drain_that_cross_lose_no_claim(controller: Controller) -> None:
    """The instance stopped while the scheduler still saw it running: the drain is decided anew."""
    await controller.enrol("node-a")
    await controller.commit(app(web=process()))
    await controller.settle()
    (row,) = (await controller.rows("instances")).values()
    await controller.commit(app(web=process(replicas=0)))
    await controller.caught_up()
    views = await controller.store.views.snapshot(VIEWS)
    stale = schedule(read_snapshot(views.rows, views.event_id), Times(), lambda: "i-none", 1.0)
    assert len(stale.drain) == 1
    await controller.report(row["instance_id"], "stopped")
    recorded = await controller.handlers.apply_schedule(stale, views.event_id)
    assert recorded.stale
    await controller.settle()
    assert await controller.rows("instances") == {}
    assert await claims_differ(controller.store) == []


async def test_the_quota_of_the_organisation_is_set_by_the_controller(controller: Controller) -> None:
    for _ in range(2):
        await controller.handlers.set_quota(ORG, {"volumes": 1})
        await controller.caught_up()
    assert len(await controller.events("quota.set")) == 1
    await controller.commit(volume("a"))
    refused = await controller.try_commit(volume("b"), source="main")
    assert isinstance(refused, Refused) and "the organisation acme may have volumes 1" in refused.findings[0].message
    await controller.handlers.set_quota(ORG, {})
    assert isinstance(await controller.try_commit(volume("b"), source="main"), Submitted)
    assert await claims_differ(controller.store) == []


async def test_of_snapshots_asked_for_at_once_one_is_queued(controller: Controller) -> None:
    await controller.enrol("node-a")
    await controller.commit(volume())
    store, volume_id = controller.store, str(volume().id)
    seen = [
        new_event("volume.placed", resource_id=volume_id),
        new_event("volume.status_changed", resource_id=volume_id),
    ]
    await store.log.append([Append("seen", "h", Cause("system", "test", ORG), tuple(seen), {})])
    row = (await controller.rows("resources"))[volume_id]
    node = (await controller.rows("nodes"))["node-a"]
    asked = [ask_snapshot(f"s-{n}", volume_id, row, node, "", Cause("user", "ann", ORG)) for n in range(8)]
    commands = [each for each in asked if isinstance(each, Append)]
    results = [result for (result,) in await asyncio.gather(*(store.log.append([each]) for each in commands))]
    conflicts = [result for result in results if isinstance(result, Conflict)]
    assert (len(commands), len(conflicts)) == (8, 7)
    said = in_progress(conflicts[0])
    assert said is not None and said.code == "snapshot_in_progress"
    (queued,) = (await controller.rows("snapshots")).values()
    assert queued["status"] == "queued"
    assert await claims_differ(store) == []


async def test_R8_an_event_that_no_command_may_write_is_quarantined_and_named_in_the_status(
    controller: Controller,
) -> None:
    store = controller.store
    for node_id in ("node-a", "node-b"):
        await controller.enrol(node_id)
    illegal = [new_event("node.state_changed", node_id="node-a", state="active")]  # it is active
    legal = [new_event("node.state_changed", node_id="node-b", state="offline")]
    await store.log.append([Append("by-hand", "h", Cause("user", "eve", ORG), (*illegal, *legal), {})])
    rows = await controller.rows("nodes")
    assert (rows["node-a"]["aggregate_seq"], rows["node-b"]["state"]) == (1, "offline")
    status = status_document(
        await store.views.snapshot(PROJECTIONS),
        await store.log.head(),
        {},
        await store.views.checkpoints(),
        await store.views.quarantined(),
    )
    (found,) = status["quarantined"]
    assert (found["projection"], found["key"]) == ("nodes", "node-a")
    assert "nothing leads from active to active" in found["error"]
    assert status["problems"] >= 1
    assert (await store.rebuild_views(["nodes"]))[0].differing == 0, "a rebuild finds the same"


async def test_a_handler_says_which_quota_stands_against_a_command(controller: Controller) -> None:
    class Asking(Appending):
        async def ask(self) -> None:
            event = new_event("node.enrolled", node_id="n", subnet="fd09::/64")
            claim = Claim("use", "h", f"{ENV} instances=2")

            async def decide() -> Append:
                return Append("ask", "h", Cause("user", "ann", ORG), (event,), {}, take=(claim,))

            await self._one("use two instances", ("nodes",), decide)

    await controller.handlers.set_quota(ORG, {"instances": 1})
    handlers = controller.handlers
    asking = Asking(handlers._event_log, handlers._views, handlers._ids, handlers._clock)
    with pytest.raises(Refusal) as caught:
        await asking.ask()
    assert caught.value.code == "quota_exceeded"
    assert "the organisation acme may have instances 1: 0 are used, this asks for 2 more" in str(caught.value)
