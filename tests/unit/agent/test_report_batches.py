"""Reports together, bounded, and never in the way of each other. Time is moved by hand; files and the loop are real."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.report import BATCH_MAX, BATCH_S, Reporter
from kit.errors import Refusal, Transient
from kit.pacing import BURST, EVERY_S
from kit.wire import InstanceReport, InstanceStatus, VolumeReport
from tests.hand_clock import HandClock


class Controller:
    """Takes everything but what `poison` names."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.asked = 0
        self.down = False
        self.poison: set[str] = set()
        self.code = "document_invalid"
        self.answer: dict[str, Any] = {"counter": 0}

    async def post(self, document: Any) -> Any:
        self.asked += 1
        if self.down:
            raise Transient("POST", "away")
        if self.poison & {each["instance_id"] for each in document["instances"]}:
            raise Refusal("POST", "it cannot be read", code=self.code)
        self.got.append(document)
        return self.answer

    @property
    def told(self) -> list[Any]:
        return [each for document in self.got for each in (*document["instances"], *document["volumes"])]


@asynccontextmanager
async def running(state: Path, controller: Controller, queue_max: int = 2000) -> AsyncIterator[tuple[Any, Any]]:
    clock = HandClock()
    reporter = Reporter(state, "node-a", controller.post, random.Random(1), queue_max=queue_max, clock=clock)
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter, clock
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(instance_id: str, status: InstanceStatus = "ready", detail: str = "") -> InstanceReport:
    return InstanceReport(instance_id, 1, 0, status, "2030-01-01T00:00:00Z", reason_detail=detail)


async def test_what_happens_within_200_ms_is_one_request(tmp_path: Path) -> None:
    controller = Controller()
    async with running(tmp_path, controller) as (reporter, clock):
        for number in range(50):
            reporter.push(told(f"i-{number}"))
            await clock.advance(0.0035)
        assert controller.asked == 0
        await clock.advance(BATCH_S)
        assert [len(document["instances"]) for document in controller.got] == [50]
        await clock.advance(60)
        assert controller.asked == 1, "when nothing happens nothing is sent"
        reporter.push(told("i-1", "unready"))
        await clock.advance(BATCH_S - 0.001)
        assert controller.asked == 1
        await clock.advance(0.001)
        assert controller.asked == 2


async def test_more_than_a_batch_goes_out_in_several_and_in_order(tmp_path: Path) -> None:
    controller = Controller()
    async with running(tmp_path, controller) as (reporter, clock):
        for number in range(2 * BATCH_MAX + 1):
            reporter.push(told(f"i-{number}"))
        await clock.advance(4 * BATCH_S)
    assert [len(document["instances"]) for document in controller.got] == [BATCH_MAX, BATCH_MAX, 1]
    assert [each["counter"] for each in controller.told] == list(range(1, 2 * BATCH_MAX + 2))


async def test_the_queue_of_a_long_silence_is_bounded_and_has_the_newest_of_everything(tmp_path: Path) -> None:
    controller = Controller()
    controller.down = True
    async with running(tmp_path, controller, queue_max=40) as (reporter, clock):
        for number in range(20):
            reporter.push(told(f"i-{number}"))
            reporter.push(VolumeReport(f"v-{number}", 0, "in_use", ""))
        for number in range(300):
            reporter.push(told("i-flaps", "ready" if number % 2 else "unready", str(number)))
            assert len(reporter.waiting) <= 41
        await clock.advance(1)
        assert len(list((tmp_path / "reports").glob("*.json"))) == len(reporter.waiting) <= 41
        controller.down = False
        await clock.advance(60)
    last = {each.get("instance_id") or each["volume_id"]: each for each in controller.told}
    assert len(last) == 41
    assert (last["i-flaps"]["status"], last["i-flaps"]["reason_detail"]) == ("ready", "299")


async def test_a_flapping_instance_is_told_of_a_bounded_number_of_times_and_rightly_in_the_end(tmp_path: Path) -> None:
    controller, seconds = Controller(), 30
    async with running(tmp_path, controller) as (reporter, clock):
        for number in range(seconds * 20):
            for status in ("unready", "ready", "failed", "booting", "ready" if number % 2 else "unready"):
                reporter.push(told("i-flaps", status))
                await clock.advance(0.01)
            if not number % 100:
                reporter.push(told("i-calm", "ready", str(number)))
        flapped = [each for each in controller.told if each["instance_id"] == "i-flaps"]
        assert len(flapped) <= BURST + seconds / EVERY_S + 1
        assert len(reporter.waiting) <= BURST * 5, "what waits does not grow either"
        assert [each["reason_detail"] for each in controller.told if each["instance_id"] == "i-calm"] == [
            str(number) for number in range(0, seconds * 20, 100)
        ], "it delays nobody else"
        await clock.advance(EVERY_S + BATCH_S)
        assert (controller.told[-1]["instance_id"], controller.told[-1]["status"]) == ("i-flaps", "ready")
        assert reporter.waiting == ()
        await clock.advance(BURST * EVERY_S + BATCH_S)
        reporter.push(told("i-other"))
        await clock.advance(BATCH_S)
        assert len(reporter._pace) == 1, "who is calm again is forgotten"


async def test_a_report_that_cannot_be_read_holds_back_no_other(tmp_path: Path) -> None:
    controller = Controller()
    controller.poison = {"i-7", "i-64"}
    async with running(tmp_path, controller) as (reporter, clock):
        for number in range(100):
            reporter.push(told(f"i-{number}"))
        await clock.advance(BATCH_S)
        assert {each["instance_id"] for each in controller.told} == {f"i-{n}" for n in range(100)} - controller.poison
        assert reporter.waiting == ()
        assert controller.asked <= 2 * 2 * 8
        await clock.advance(120)
        assert controller.asked <= 2 * 2 * 8, "it is not tried again"
    assert len(list((tmp_path / "reports").glob("*.refused"))) == 2
    async with running(tmp_path, controller) as (reporter, _):
        assert reporter.waiting == ()


@pytest.mark.parametrize("code", ["unauthorized", "node_unknown", "forbidden", "cursor_invalid"])
async def test_what_is_refused_for_who_says_it_is_kept(tmp_path: Path, code: str) -> None:
    controller = Controller()
    controller.poison, controller.code = {"i-1"}, code
    async with running(tmp_path, controller) as (reporter, clock):
        reporter.push(told("i-1"))
        reporter.push(told("i-2"))
        await clock.advance(60)
        assert len(reporter.waiting) == 2
        controller.poison = set()
        await clock.advance(60)
        assert [each["instance_id"] for each in controller.told] == ["i-1", "i-2"]


async def test_what_the_controller_will_never_record_is_told_in_the_log_and_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    controller = Controller()
    controller.answer = {"counter": 1, "refused": [{"code": "epoch_stale", "detail": "the instance is in epoch 2"}]}
    async with running(tmp_path, controller) as (reporter, clock):
        reporter.push(told("i-1"))
        await clock.advance(BATCH_S)
        assert reporter.waiting == ()
        await clock.advance(600)
    assert controller.asked == 1
    fields = [getattr(each, "fields", {}) for each in caplog.records]
    assert [each["code"] for each in fields if "code" in each] == ["epoch_stale"]


async def test_who_lost_his_numbers_learns_them_from_the_answer(tmp_path: Path) -> None:
    """The folder is new and the clock was set back, so everything that is said looks old."""
    controller = Controller()
    controller.answer = {"counter": 900}
    async with running(tmp_path, controller) as (reporter, clock):
        reporter.push(told("i-1", "booting"))
        reporter.push(told("i-1", "ready"))
        await clock.advance(3 * BATCH_S)
        assert [each["counter"] for each in controller.told] == [1, 2, 901, 902]
        assert reporter.waiting == ()
        await clock.advance(60)
    assert controller.asked == 2


async def test_a_reason_is_bounded(tmp_path: Path) -> None:
    controller = Controller()
    async with running(tmp_path, controller) as (reporter, clock):
        reporter.push(told("i-1", "failed", "y" * 1_000_000))
        await clock.advance(BATCH_S)
    assert len(controller.told[0]["reason_detail"]) == 2000
