"""A caller is served by a turn that began after it came, with everybody else who came by then."""

from __future__ import annotations

import asyncio

import pytest

from kit.shared_turn import SharedTurn


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.gates: list[asyncio.Future[None]] = []
        self.turn = SharedTurn(self._work, "test")

    async def _work(self) -> None:
        self.begun += 1
        self.gates.append(asyncio.get_running_loop().create_future())
        await self.gates[-1]

    async def call(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self.turn.done())
        await _everybody_had_a_turn()
        return task


async def _everybody_had_a_turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_comes_while_it_is_under_way_is_served_by_the_next_together() -> None:
    work = Work()
    first = await work.call()
    late = [await work.call() for _ in range(10)]
    assert work.begun == 1
    work.gates[0].set_result(None)
    await first
    await _everybody_had_a_turn()
    assert work.begun == 2 and not any(each.done() for each in late)
    work.gates[1].set_result(None)
    await asyncio.gather(*late)
    assert work.begun == 2


async def test_a_turn_that_fails_fails_for_its_own_callers_only() -> None:
    work = Work()
    first = await work.call()
    second = await work.call()
    work.gates[0].set_exception(OSError("away"))
    with pytest.raises(OSError, match="away"):
        await first
    await _everybody_had_a_turn()
    work.gates[1].set_result(None)
    await second


async def test_a_caller_that_is_cancelled_takes_the_turn_from_nobody() -> None:
    work = Work()
    first, other = await work.call(), await work.call()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.gates[0].set_result(None)
    await _everybody_had_a_turn()
    work.gates[1].set_result(None)
    await other
