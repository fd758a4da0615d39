"""Fetches take turns: bounded per host and in all, and a host that stalls holds up nobody else."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from reconciler.git.turns import FetchTurns, place_of

DEADLINE_S = 5.0


class Fetches:
    """Pretended ones, of which a test says when they end."""

    def __init__(self, turns: FetchTurns) -> None:
        self._turns = turns
        self.running: Counter[str] = Counter()
        self.most_at_once = 0
        self.go = asyncio.Event()

    async def fetch(self, url: str) -> None:
        async with self._turns.turn(url):
            self.running[place_of(url)] += 1
            self.most_at_once = max(self.most_at_once, self.running.total())
            try:
                await self.go.wait()
            finally:
                self.running[place_of(url)] -= 1


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_hundred_sources_are_a_few_fetches_at_once() -> None:
    fetches = Fetches(FetchTurns(per_host_max=2, at_once_max=5, patience_s=60))
    tasks = [asyncio.create_task(fetches.fetch(f"https://h{number % 10}/{number}")) for number in range(100)]
    await settled()
    assert fetches.running.total() == 5
    assert max(fetches.running.values()) <= 2
    fetches.go.set()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*tasks)
    assert fetches.most_at_once == 5


async def test_hosts_that_stall_hold_up_nobody_else() -> None:
    fetches = Fetches(FetchTurns(per_host_max=2, at_once_max=4, patience_s=0.05))
    stalled = [asyncio.create_task(fetches.fetch(f"ssh://git@dead{number % 3}/{number}")) for number in range(12)]
    await settled()
    other = asyncio.create_task(fetches.fetch("https://alive/x"))
    await settled()
    assert fetches.running.total() == 4, "all places are taken"
    await until(lambda: fetches.running["alive"] > 0)
    assert all(fetches.running[f"dead{number}"] <= 2 for number in range(3)), "each host has its own bound all the same"
    fetches.go.set()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*stalled, other)


async def test_a_place_comes_back_once_and_also_from_a_fetch_that_was_cut_off() -> None:
    turns = FetchTurns(per_host_max=1, at_once_max=1, patience_s=0.02)
    for _ in range(3):
        fetches = Fetches(turns)
        task = asyncio.create_task(fetches.fetch("https://a/x"))
        await until(lambda: fetches.running["a"] == 1)  # noqa: B023  # awaited within the round
        await asyncio.sleep(0.04)  # its patience is over
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    fetches = Fetches(turns)
    tasks = [asyncio.create_task(fetches.fetch(f"https://h{number}/x")) for number in range(3)]
    await settled()
    assert fetches.running.total() == 1, "a place that came back twice would let two run"
    fetches.go.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://git.example:8443/a.git", "git.example"),
        ("ssh://git@git.example:2222/a.git", "git.example"),
        ("git@git.example:acme/a.git", "git.example"),
        ("/srv/a.git", "/srv/a.git"),
        ("file:///srv/a.git", "file:///srv/a.git"),
    ],
)
def test_the_place_of_an_address(url: str, place: str) -> None:
    assert place_of(url) == place
