"""Reports: numbered, kept on disk, never lost, bounded."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from agent.report import Reporter
from kit.errors import Transient
from kit.wire import InstanceReport, InstanceStatus, VolumeReport


class Controller:
    def __init__(self) -> None:
        self.got: list[Any] = []
        self.answer: Any = {"counter": 0}
        self.down = False

    async def post(self, document: Any) -> Any:
        if self.down:
            raise Transient("POST", "away")
        self.got.append(document)
        return self.answer


def reporter(state: Path, controller: Controller, queue_max: int = 100) -> Reporter:
    return Reporter(state, "node-a", controller.post, random.Random(1), queue_max=queue_max)


def told(instance_id: str, status: InstanceStatus) -> InstanceReport:
    return InstanceReport(instance_id, 1, 0, status, "2030-01-01T00:00:00Z")


async def test_a_batch_goes_out_and_is_forgotten(tmp_path: Path) -> None:
    controller = Controller()
    reports = reporter(tmp_path, controller)
    reports.push(told("i-1", "booting"))
    reports.push(VolumeReport("v", 0, "available", ""))
    await reports.send_once()
    [document] = controller.got
    assert [r["counter"] for r in (*document["instances"], *document["volumes"])] == [1, 2]
    assert reports.waiting == ()
    assert list((tmp_path / "reports").glob("*.json")) == []


async def test_nothing_is_lost_over_a_restart_and_counters_go_on(tmp_path: Path) -> None:
    controller = Controller()
    first = reporter(tmp_path, controller)
    first.push(told("i-1", "booting"))
    await first.send_once()
    controller.down = True
    first.push(told("i-1", "ready"))
    with pytest.raises(Transient):
        await first.send_once()
    controller.down = False
    second = reporter(tmp_path, controller)
    second.push(told("i-1", "draining"))
    await second.send_once()
    assert [(r["counter"], r["status"]) for r in controller.got[-1]["instances"]] == [(2, "ready"), (3, "draining")]


def test_over_the_bound_only_superseded_transitions_go(tmp_path: Path) -> None:
    reports = reporter(tmp_path, Controller(), queue_max=3)
    for status in ("booting", "ready", "unready"):
        reports.push(told("i-1", status))
    for number in range(4):
        reports.push(told(f"j-{number}", "ready"))
    left = [(r.instance_id, r.status) for r in reports.waiting if isinstance(r, InstanceReport)]
    assert left == [("i-1", "unready"), *((f"j-{number}", "ready") for number in range(4))]
    assert len(list((tmp_path / "reports").glob("*.json"))) == 5


async def test_a_new_state_folder_begins_above_the_old_one(tmp_path: Path) -> None:
    controller = Controller()
    reports = Reporter(tmp_path, "node-a", controller.post, random.Random(1), first_counter=500)
    reports.push(told("i-1", "booting"))
    assert [report.counter for report in reports.waiting] == [501]
    again = Reporter(tmp_path, "node-a", controller.post, random.Random(1), first_counter=900)
    again.push(told("i-1", "ready"))
    assert [report.counter for report in again.waiting] == [501, 502], "only a new folder takes the new number"


async def test_a_damaged_report_costs_only_itself(tmp_path: Path) -> None:
    first = reporter(tmp_path, Controller())
    first.push(told("i-1", "booting"))
    first.push(told("i-2", "booting"))
    (tmp_path / "reports" / f"{1:016d}.json").write_text("{")
    second = reporter(tmp_path, Controller())
    assert [report.counter for report in second.waiting] == [2]
