"""Which units go together, which follow, and which have to wait: the queue alone, with a `send` that the test holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kit.clock import SystemClock
from kit.errors import Transient
from reconciler.core.commands import Append, Appended, AppendResult, Claim
from reconciler.store import batcher
from reconciler.store.append_batch import Unit
from reconciler.store.batcher import Batcher
from tests.integration.store.building import command, node_event, version


class Gate:
    """A database whose transactions end when the test says so."""

    def __init__(self) -> None:
        self.under_way: list[tuple[list[str], asyncio.Event]] = []
        self.begun: list[list[str]] = []
        self.ended: list[str] = []
        self.queue = Batcher(self.send, SystemClock())

    async def send(self, units: Sequence[Unit]) -> list[list[AppendResult]]:
        names = [append.command_id for unit in units for append in unit.batch]
        entry = (names, asyncio.Event())
        self.begun.append(names)
        self.under_way.append(entry)
        try:
            await entry[1].wait()
            self.ended += names
        finally:
            self.under_way.remove(entry)
        return [[Appended(append.command_id, 1, 1) for append in unit.batch] for unit in units]

    def submit(self, *appends: Append) -> asyncio.Task[list[AppendResult]]:
        return asyncio.ensure_future(self.answered(*appends))

    async def answered(self, *appends: Append) -> list[AppendResult]:
        answer: asyncio.Future[list[AppendResult]] = asyncio.get_running_loop().create_future()
        payloads = ["{}" for append in appends for _ in append.events]
        unit = Unit(appends, payloads, True, answer, SystemClock().now_s() + 5)
        return await self.queue.submit(unit)

    async def end(self, index: int = 0) -> None:
        self.under_way[index][1].set()
        await turns()

    async def end_all(self) -> None:
        while self.under_way:
            await self.end()


async def turns() -> None:
    """Enough turns of the event loop for everything that does not wait for the gate."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    await gate.end_all()
    await gate.queue.close()


def on(aggregate: str, command_id: str, **more: Any) -> Append:
    return replace(command(node_event(aggregate), command_id=command_id), **more)


async def test_a_second_batch_is_under_way_while_the_first_is_and_no_third(gate: Gate) -> None:
    for name in "abcd":
        gate.submit(on(name, name))
        await turns()
    assert gate.begun == [["a"], ["b"]]
    await gate.end()
    assert gate.begun == [["a"], ["b"], ["c", "d"]]


async def test_what_queues_in_one_turn_goes_in_two_halves_that_take_turns(gate: Gate) -> None:
    """Else one caller and all the others would take turns for ever."""

    async def caller(name: str) -> None:
        for step in range(4):
            await gate.answered(on(name, f"{name}-{step}"))

    callers = [asyncio.ensure_future(caller(f"n{number}")) for number in range(16)]
    while not all(each.done() for each in callers):
        await turns()
        await gate.end()
    sizes = [len(names) for names in gate.begun]
    assert sum(sizes) == 64
    assert sizes[4:8] == [8, 8, 8, 8], sizes


async def test_what_is_much_smaller_than_what_is_under_way_waits_for_its_end(gate: Gate) -> None:
    gate.submit(*(on(f"large-{n}", f"large-{n}") for n in range(20)))
    gate.submit(on("small", "small"))
    await turns()
    assert len(gate.begun) == 1
    await gate.end()
    assert gate.begun[1:] == [["small"]]


CLAIM = Claim("hostname", "a.example:443", "web")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (on("x", "same"), on("y", "same")),
        (on("x", "one"), on("x", "two")),
        (on("x", "one"), on("y", "two", expected=version(node_event("x"), 1))),
        (on("x", "one", take=(CLAIM,)), on("y", "two", free=(CLAIM,))),
    ],
    ids=["command", "aggregate", "expected", "claim"],
)
async def test_units_that_share_anything_are_not_under_way_together(gate: Gate, first: Append, second: Append) -> None:
    gate.submit(first)
    gate.submit(second)
    behind = gate.submit(on("free", "free"))
    await turns()
    assert gate.begun == [[first.command_id]], "nor does what came later overtake"
    await gate.end()
    await gate.end_all()
    assert [name for names in gate.begun for name in names] == [first.command_id, second.command_id, "free"]
    assert behind.done()


async def test_each_aggregate_keeps_the_order_of_its_commands_whatever_ends_first(gate: Gate) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    sent: dict[str, list[str]] = {}
    for number in range(300):
        aggregate, command_id = f"n{rng.randrange(12)}", f"c{number}"
        sent.setdefault(aggregate, []).append(command_id)
        gate.submit(on(aggregate, command_id))
        if rng.random() < 0.3:
            await turns()
        if gate.under_way and rng.random() < 0.3:
            together = [set(names) for names, _ in gate.under_way]
            assert len(together) <= 2
            await gate.end(rng.randrange(len(gate.under_way)))
    await turns()
    await gate.end_all()
    for names in sent.values():
        assert [name for name in gate.ended if name in names] == names


async def test_the_queue_is_bounded(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "QUEUE_COMMANDS_MAX", 4)
    monkeypatch.setattr(batcher, "QUEUE_TIMEOUT_S", 0.2)
    for name in ("first", "second", *"abcd"):
        gate.submit(on(name, name))
        await turns()
    (refused,) = await asyncio.gather(gate.submit(on("e", "e")), return_exceptions=True)
    assert isinstance(refused, Transient)
    assert refused.code == "append_queue_full"
    late = gate.submit(on("late", "late"))
    await turns()
    await gate.end()
    await gate.end_all()
    assert gate.begun == [["first"], ["second"], list("abcd"), ["late"]]
    assert (await late)[0] == Appended("late", 1, 1)


async def test_to_close_answers_both_that_are_under_way_and_the_queue(gate: Gate) -> None:
    tasks = [gate.submit(on("head", "head"))]
    await turns()
    tasks += [gate.submit(on(name, name)) for name in "bc"]
    await turns()
    tasks.append(gate.submit(on("b", "b2")))
    await turns()
    assert gate.begun == [["head"], ["b", "c"]]
    closing = asyncio.ensure_future(gate.queue.close())
    await turns()
    for _, event in gate.under_way:
        event.set()
    await closing
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], list), "its own caller sent it, and the database answered"
    assert all(isinstance(answer, Transient) for answer in answers[1:]), answers
