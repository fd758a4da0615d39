"""Silence is what nobody could have overheard: by the database's clock, while this process listened."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from reconciler.store.heartbeats import Heartbeats
from reconciler.store.store import Store


class HandClock:
    """Our own monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_s(self) -> float:
        return self.seconds

    def utc(self) -> str:
        return ""

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Beats:
    """A Heartbeats under test. `passes` makes time pass for the database, too: it moves all it has written back."""

    def __init__(self, store: Store, superuser_url: str) -> None:
        self.clock = HandClock()
        self.heartbeats = Heartbeats(store._pool, self.clock)
        self.url = superuser_url

    async def passes(self, seconds: float) -> None:
        connection = await asyncpg.connect(self.url, server_settings={"search_path": "trueup"})
        try:
            await connection.execute(f"UPDATE node_heartbeats SET last_at = last_at - interval '{seconds} s'")
        finally:
            await connection.close()
        await self.ours_passes(seconds)

    async def ours_passes(self, seconds: float) -> None:
        self.clock.seconds += seconds
        if self.heartbeats._listening_since is not None:
            self.heartbeats._listening_since -= timedelta(seconds=seconds)
        if self.heartbeats._last_look is not None:
            then, _ = self.heartbeats._last_look
            self.heartbeats._last_look = (then - timedelta(seconds=seconds), self.heartbeats._last_look[1])

    async def listen(self, seconds: float, step_s: float = 5.0) -> None:
        for _ in range(int(seconds / step_s)):
            await self.passes(step_s)
            await self.heartbeats.silent_since(60)


async def test_a_node_that_stops_is_silent_after_its_time_and_one_that_beats_is_not(
    store: Store, superuser_url: str
) -> None:
    beats = Beats(store, superuser_url)
    await beats.heartbeats.silent_since(60)
    await beats.heartbeats.touch("gone")
    await beats.heartbeats.touch("here")
    await beats.listen(55)
    assert await beats.heartbeats.silent_since(60) == ()
    await beats.heartbeats.touch("here")
    await beats.listen(10)
    assert await beats.heartbeats.silent_since(60) == ("gone",)
    await beats.heartbeats.touch("gone")
    assert await beats.heartbeats.silent_since(60) == ()


async def test_a_controller_that_was_away_does_not_call_everybody_silent(store: Store, superuser_url: str) -> None:
    beats = Beats(store, superuser_url)
    await beats.heartbeats.touch("node-a")
    await beats.passes(3600)
    assert await beats.heartbeats.silent_since(60) == (), "just started: nobody listened"
    await beats.listen(55)
    assert await beats.heartbeats.silent_since(60) == ()
    await beats.listen(10)
    assert await beats.heartbeats.silent_since(60) == ("node-a",)


async def test_a_pause_of_the_controller_begins_the_listening_anew(store: Store, superuser_url: str) -> None:
    beats = Beats(store, superuser_url)
    await beats.heartbeats.silent_since(60)
    await beats.heartbeats.touch("node-a")
    await beats.passes(120)  # stopped, or the database was away: no look in between
    assert await beats.heartbeats.silent_since(60) == ()


async def test_R7_a_jump_of_the_database_clock_makes_nobody_silent(store: Store, superuser_url: str) -> None:
    beats = Beats(store, superuser_url)
    await beats.heartbeats.silent_since(60)
    await beats.heartbeats.touch("node-a")
    before = beats.clock.seconds
    await beats.passes(3600)
    beats.clock.seconds = before + 1  # the database says an hour, our own clock a second
    assert await beats.heartbeats.silent_since(60) == ()


async def test_R7_a_clock_set_back_does_not_hide_a_silent_node(store: Store, superuser_url: str) -> None:
    beats = Beats(store, superuser_url)
    await beats.heartbeats.silent_since(60)
    await beats.heartbeats.touch("node-a")
    before = beats.clock.seconds
    await beats.passes(-3600)
    beats.clock.seconds = before + 1
    assert await beats.heartbeats.silent_since(60) == ()
    await beats.listen(65)
    assert await beats.heartbeats.silent_since(60) == ("node-a",)


async def test_a_node_that_was_never_heard_or_is_forgotten_is_not_silent(store: Store, superuser_url: str) -> None:
    beats = Beats(store, superuser_url)
    await beats.heartbeats.silent_since(60)
    await beats.heartbeats.touch("node-a")
    await beats.listen(70)
    assert await beats.heartbeats.silent_since(60) == ("node-a",)
    await beats.heartbeats.forget("node-a")
    assert await beats.heartbeats.silent_since(60) == ()
