"""When a reader asks by stream, when by long poll, and how long it waits in between."""

from __future__ import annotations

import random

import pytest

from kit.backoff import Backoff
from kit.errors import Refusal, Transient, TrueupError
from kit.stream_course import BARREN_MAX, POLL_REST_S, STREAM_SILENT, Course, Outcome, Pace

PACE = Pace(hello_s=10, polling_s=60, polling_s_max=200, backoff=Backoff(0.2, 15.0, jitter=1.0))
SILENT = Transient("GET", "nothing came", code=STREAM_SILENT)
CUT = Transient("GET", "cut", code="stream_cut")
AWAY = Transient("GET", "refused", code="controller_unreachable")
GONE = Refusal("GET", "410", code="cursor_invalid")


class Reader:
    """Goes through outcomes at a time that goes on by itself."""

    def __init__(self, seed: int = 1) -> None:
        self.course = Course(PACE)
        self.now_s = 0.0
        self.rng = random.Random(seed)

    def does(
        self, error: TrueupError | None = None, *, brought: int = 0, ended: bool = False, lasted_s: float = 0
    ) -> str:
        """How it asked."""
        polled = self.course.polls(self.now_s)
        self.now_s += lasted_s
        self.now_s += self.course.pause_s(Outcome(polled, brought, ended, lasted_s, error), self.now_s, self.rng)
        return "poll" if polled else "stream"

    def polls_on(self) -> float:
        """How long it goes on polling, each of which brings something, until it tries a stream."""
        started_s = self.now_s
        while self.course.polls(self.now_s):
            assert self.does(brought=1, lasted_s=1) == "poll"
        return self.now_s - started_s


@pytest.mark.parametrize("seed", range(20))
def test_nobody_comes_back_before_the_time_that_was_told_nor_all_at_once(seed: int) -> None:
    """Ten thousand who were told the same."""
    busy = Transient("GET", "503", code="unavailable", retry_after_s=7)
    rng = random.Random(seed)
    pauses_s = [Course(PACE).pause_s(Outcome(False, error=busy), 0, rng) for _ in range(10_000)]
    assert min(pauses_s) >= 7
    in_tenths = [0] * 100
    for pause_s in pauses_s:
        in_tenths[int((pause_s - 7) * 10)] += 1
    assert max(in_tenths) < 250, "143 in a tenth of a second when spread evenly over seven"


def test_those_whose_good_stream_broke_come_back_spread_over_a_second() -> None:
    rng = random.Random(1)
    pauses_s = [Course(PACE).pause_s(Outcome(False, 5, error=CUT), 0, rng) for _ in range(10_000)]
    assert sum(pause_s < 0.1 for pause_s in pauses_s) < 1_200
    assert max(pauses_s) <= 1


def test_the_pause_grows_with_each_connection_that_brought_nothing_up_to_a_bound() -> None:
    rng, course = random.Random(1), Course(PACE)
    for number in range(1, 40):
        pause_s = course.pause_s(Outcome(False, error=AWAY), 0, rng)
        assert min(15, 0.2 * 2 ** (number - 1)) <= pause_s <= 2 * min(15, 0.2 * 2 ** (number - 1))
    assert course.pause_s(Outcome(False, 1, error=CUT), 0, rng) <= 1, "something came: it begins anew"


def test_a_silent_stream_is_left_at_once_and_tried_again_later_and_later() -> None:
    reader = Reader()
    assert reader.does(SILENT, lasted_s=10) == "stream"
    for length_s in (60, 120, 200, 200):
        assert length_s <= reader.polls_on() <= 1.25 * length_s + 2
        assert reader.does(SILENT, lasted_s=10) == "stream"
    reader.polls_on()
    assert reader.does(CUT, brought=3, lasted_s=100) == "stream"
    assert reader.does(SILENT, lasted_s=10) == "stream", "it was a good one, so the next was one too"
    assert reader.polls_on() <= 1.25 * 60 + 2, "and all is as in the beginning"


def test_streams_that_break_before_anything_came_are_left_after_some() -> None:
    reader = Reader()
    assert [reader.does(CUT) for _ in range(BARREN_MAX)] == ["stream"] * BARREN_MAX
    assert reader.does(brought=1) == "poll"
    assert reader.does(brought=1) == "poll"


def test_when_the_long_poll_fails_as_well_it_was_not_for_the_stream() -> None:
    reader = Reader()
    asked = [reader.does(CUT) for _ in range(BARREN_MAX + 4)]
    assert asked == ["stream"] * BARREN_MAX + ["poll", "stream", "poll", "stream"]


@pytest.mark.parametrize(
    "error", [AWAY, GONE, Transient("GET", "503", code="unavailable", retry_after_s=1)], ids=lambda each: each.code
)
def test_a_controller_that_is_away_or_busy_says_nothing_about_streams(error: TrueupError) -> None:
    reader = Reader()
    assert {reader.does(error) for _ in range(20)} == {"stream"}


def test_an_end_that_is_told_says_nothing_against_streams_but_grows_the_pause() -> None:
    reader = Reader()
    assert {reader.does(ended=True) for _ in range(10)} == {"stream"}
    assert reader.course.failures == 10


def test_a_stream_that_was_quiet_and_was_ended_after_a_while_was_good() -> None:
    reader = Reader()
    assert {reader.does(CUT, lasted_s=30) for _ in range(10)} == {"stream"}
    assert reader.course.failures == 0


def test_a_half_open_stream_is_opened_anew() -> None:
    reader = Reader()
    assert reader.does(SILENT, brought=9, lasted_s=100) == "stream"
    assert reader.does(brought=1) == "stream"


def test_long_polls_that_bring_something_follow_at_once() -> None:
    course, rng = Course(PACE), random.Random(1)
    course.pause_s(Outcome(False, error=SILENT), 0, rng)
    assert course.polls(1)
    assert course.pause_s(Outcome(True, 2), 1, rng) == POLL_REST_S
    assert course.pause_s(Outcome(True, 0), 2, rng) >= 0.2, "a proxy that answers with nothing is not asked in a circle"
