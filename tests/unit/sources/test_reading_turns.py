"""Reading processes: a few at once, a few kept, and none ended while it reads."""

from __future__ import annotations

import asyncio

from reconciler.git.bounded.process import ReadingProcess
from reconciler.git.bounded.turns import ReadingTurns


class Pretended(ReadingProcess):
    """One that only notes whether it was ended."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = False
        self.ended = 0

    def close(self) -> None:
        assert not self.reading, "it was ended while it read"
        self.ended += 1


async def test_the_ones_used_last_are_kept_and_a_few_read_at_once() -> None:
    turns = ReadingTurns(at_once_max=2, kept_max=3)
    processes = [Pretended() for _ in range(10)]
    at_once: list[int] = []

    async def read(process: Pretended) -> None:
        async with turns.turn(process):
            process.reading = True
            at_once.append(sum(each.reading for each in processes))
            await asyncio.sleep(0)
            process.reading = False

    await asyncio.gather(*(read(process) for process in processes))
    assert max(at_once) == 2
    assert [process.ended for process in processes] == [1] * 7 + [0] * 3
    await read(processes[7])
    await read(processes[0])
    assert [process.ended for process in processes[7:]] == [0, 1, 0], "the one that was used again stays"
