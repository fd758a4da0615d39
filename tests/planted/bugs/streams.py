"""Change streams."""

from __future__ import annotations

from tests.planted.bugs.bug import Bug

STREAMS = "tests/unit/server/test_streams.py"
FAN = "tests/unit/server/test_fan.py"

BUGS = (
    Bug(
        "S3",
        "late readers of a filter are given what is near, and their position jumps over the rest",
        "reconciler/server/log_reading.py",
        "only=EventFilter(reader=key), upto=end",
        "only=EventFilter(reader=key), upto=end - 1",
        f"{STREAMS}::test_random_readers_see_exactly_the_filtered_log",
    ),
    Bug(
        "S4",
        "a piece of the log ends where it happens to end",
        "reconciler/server/log_reading.py",
        "while 0 < event_id < head:",
        "while False:",
        f"{STREAMS}::test_a_command_is_never_cut_in_two",
    ),
    Bug(
        "S6",
        "a bookmark overtakes what waits for its turn in a flush",
        "reconciler/server/fan.py",
        "min(clean_upto, self._flushed_from.get(seat.key, clean_upto))",
        "ring.head",
        f"{FAN}::test_a_bookmark_never_overtakes_what_waits_to_be_flushed",
    ),
    Bug(
        "S10",
        "who takes nothing keeps its seat",
        "reconciler/server/fan.py",
        "return not self.transport.get_write_buffer_size()",
        "return True",
        f"{FAN}::test_a_seat_that_does_not_take_what_it_is_given_is_left_and_the_others_are_served",
    ),
    Bug(
        "S8",
        "the seats of the log of before are kept",
        "reconciler/server/hub.py",
        "        self._wake(set(self._waiting))\n        self.fan.empty()",
        "        self._wake(set(self._waiting))",
        f"{STREAMS}::test_a_log_that_was_restored_ends_every_stream_and_then_refuses_the_cursor",
    ),
)
