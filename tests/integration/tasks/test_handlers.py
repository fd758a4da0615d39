"""Handlers on real Postgres: idempotent, atomic, and never wrong because a view lags."""

from __future__ import annotations

import asyncio

import pytest

from kit.errors import Refusal, Transient
from kit.wire import EdgeReport, Enrolment, NodeReport, ReportTaken, RouteReport, VolumeReport
from reconciler.core.commands import Conflict
from reconciler.core.decide.instances import Known, decide_report
from reconciler.core.events import Cause
from reconciler.core.findings import Finding
from reconciler.core.model import VolumeUse
from reconciler.core.revisions import Refused, RevisionRefused, Submitted
from tests.integration.tasks.controller import Controller
from tests.unit.decide.test_git import route
from tests.unit.scheduler.world import app, process, secret, volume


async def test_a_revision_submitted_many_times_at_once_has_one_effect(controller: Controller) -> None:
    revision, commands = await controller.revision(secret("1"), app(web=process(secrets=("keys",))), route())
    other = controller.another()
    results = await asyncio.gather(
        *(each.handlers.submit_revision(revision, commands) for each in (controller, other) * 3)
    )
    assert all(isinstance(result, Submitted) for result in results)
    again = await controller.handlers.submit_revision(revision, commands)
    assert isinstance(again, Submitted) and again.duplicate
    assert len(await controller.events("revision.applied")) == 1
    assert len(await controller.events("deployment.created")) == 1


async def test_a_revision_that_was_planned_on_another_base_is_planned_anew(controller: Controller) -> None:
    first = await controller.revision(volume())
    second = await controller.revision(volume("logs"))
    assert isinstance(await controller.handlers.submit_revision(*first), Submitted)
    with pytest.raises(Transient) as caught:
        await controller.handlers.submit_revision(*second)
    assert caught.value.code == "base_moved"


async def test_a_hostname_of_another_source_refuses_the_whole_revision(controller: Controller) -> None:
    await controller.register("other")
    await controller.commit(route("shop.example"))
    before = (await controller.store.log.head()).last_event_id
    result = await controller.try_commit(route("shop.example", "thief"), volume("mine"), source="other")
    assert isinstance(result, Refused)
    (finding,) = result.findings
    assert (finding.code, finding.path, finding.line) == ("hostname_taken", "routes/thief.yaml", 4)
    assert "route/web" in finding.message
    assert (await controller.store.log.head()).last_event_id == before, "nothing of it was appended"


async def test_what_was_deleted_can_be_declared_anew(controller: Controller) -> None:
    await controller.commit(volume())
    await controller.commit(remove=(volume().id,))
    await controller.commit(volume())
    assert str(volume().id) in await controller.rows("resources")


async def test_the_same_refusal_is_recorded_once(controller: Controller) -> None:
    revision, _ = await controller.revision(volume())
    finding = Finding("a.yaml", 1, 1, "", "manifest_invalid", "it is wrong")
    refusal = RevisionRefused(
        "refuse-1", revision.cause, "main", revision.commit, "", "ann", "a change", findings=(finding,)
    )
    first = await controller.handlers.refuse_revision(refusal)
    second = await controller.handlers.refuse_revision(refusal)
    assert (first.duplicate, second.duplicate) == (False, True)
    assert len(await controller.events("revision.refused")) == 1
    result = await controller.handlers.submit_revision(*(await controller.revision(volume())))
    assert isinstance(result, Submitted), "a bad commit does not block the one that mends it"


async def test_enrolment_is_idempotent_and_a_subnet_has_one_node(controller: Controller) -> None:
    for _ in range(3):
        await controller.enrol("node-a")
    await controller.caught_up()
    await controller.enrol("node-a")
    assert len(await controller.events("node.enrolled")) == 1
    row = (await controller.rows("nodes"))["node-a"]
    with pytest.raises(Refusal) as caught:
        await controller.handlers.enrol_node(
            Enrolment("node-b", row["subnet"], 1 << 30, 1.0, 1 << 30, "age1y", "kvm", "1")
        )
    assert caught.value.code == "claim_taken"
    assert "node-a" in str(caught.value)


async def test_reports_are_recorded_in_order_and_once(controller: Controller) -> None:
    await controller.enrol("node-a")
    await controller.commit(app(web=process()))
    await controller.scheduler.one_pass()
    (row,) = (await controller.rows("instances")).values()
    reports = tuple(controller.told(row, status) for status in ("preparing", "booting", "ready"))
    batch = NodeReport("node-a", reports)
    answers = await asyncio.gather(*(controller.handlers.record_node_report(batch) for _ in range(4)))
    assert answers == [ReportTaken(3)] * 4
    changes = await controller.events("instance.status_changed")
    assert [event.payload["status"] for event in changes] == ["preparing", "booting", "ready"]


async def test_a_report_that_was_decided_on_an_old_row_is_decided_anew(controller: Controller) -> None:
    """The end of an instance gives its address back, whatever the view said when the report came in."""
    await controller.enrol("node-a")
    await controller.commit(app(web=process()))
    await controller.scheduler.one_pass()
    (old,) = (await controller.rows("instances")).values()
    told = controller.told(old, "stopped")
    await controller.commit(app(web=process(replicas=0)))
    await controller.scheduler.one_pass()
    decision = decide_report(Known.of(old), "node-a", told, Cause("system", "node-a", ""))
    assert isinstance(decision, tuple)
    (result,) = await controller.store.log.append([decision[0]])
    assert isinstance(result, Conflict) and result.kind == "version"
    await controller.handlers.record_node_report(NodeReport("node-a", (told,)))
    assert await controller.rows("instances") == {}
    async with controller.store.log._pool.acquire() as connection:
        assert await connection.fetch("SELECT * FROM claims WHERE kind = 'address'") == []


async def test_a_source_has_to_be_registered(controller: Controller) -> None:
    with pytest.raises(Refusal) as caught:
        await controller.try_commit(volume(), source="nobody")
    assert caught.value.code == "source_unknown"


async def test_a_poisoned_report_stops_only_itself(controller: Controller) -> None:
    await controller.enrol("node-a")
    await controller.commit(app(web=process(replicas=2)))
    await controller.scheduler.one_pass()
    first, second = (await controller.rows("instances")).values()
    batch = NodeReport(
        "node-a",
        (
            controller.told(first, "failed", reason_code="no_such_code"),
            controller.told(second, "failed", reason_code="process_exited", reason_detail="a\x00b \udc80"),
            controller.told({**second, "instance_id": "i-nobody"}, "ready"),
            controller.told({**second, "epoch": 7}, "ready"),
        ),
    )
    taken = await controller.handlers.record_node_report(batch)
    assert taken.counter == 4
    assert [each.code for each in taken.refused] == ["epoch_stale"]
    assert "of epoch 7, the instance is in epoch 1" in taken.refused[0].detail
    rows = await controller.rows("instances")
    assert rows[first["instance_id"]]["status"] == ""
    assert rows[second["instance_id"]]["reason_detail"] == "ab ?"


async def test_a_node_cannot_speak_for_another(controller: Controller) -> None:
    await controller.enrol("node-a")
    await controller.enrol("node-b")
    await controller.commit(app(web=process()))
    await controller.scheduler.one_pass()
    (row,) = (await controller.rows("instances")).values()
    stranger = "node-b" if row["node_id"] == "node-a" else "node-a"
    await controller.handlers.record_node_report(NodeReport(stranger, (controller.told(row, "stopped"),)))
    assert await controller.events("instance.status_changed") == []


async def test_a_deleted_volume_waits_as_a_tombstone_for_its_node(controller: Controller) -> None:
    await controller.enrol("node-a")
    use = (VolumeUse("data", "/data"),)
    await controller.commit(volume(), app(db=process(volumes=use)))
    await controller.settle()
    await controller.commit(remove=(app(db=process()).id, volume().id))
    await controller.settle()
    assert list(await controller.rows("tombstones")) == [f"{volume().id}@node-a"]
    told = VolumeReport(str(volume().id), 99, "deleted", "2026-01-01T00:00:00Z")
    for _ in range(2):
        await controller.handlers.record_node_report(NodeReport("node-a", volumes=(told,)))
        await controller.caught_up()
    assert await controller.rows("tombstones") == {}
    assert len([e for e in await controller.events("volume.status_changed") if e.payload["status"] == "deleted"]) == 1


async def test_an_edge_reports_transitions(controller: Controller) -> None:
    await controller.commit(route())
    for generation in (5, 6, 7):
        told = RouteReport(str(route().id), "active", 2)
        await controller.handlers.record_edge_report(EdgeReport("edge-1", generation, "2026-01-01T00:00:00Z", (told,)))
        await controller.caught_up()
    assert len(await controller.events("route.status_changed")) == 1
    row = (await controller.rows("resources"))[str(route().id)]
    assert row["observed"]["edge-1"]["backends"] == 2
