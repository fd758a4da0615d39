"""The client of the change stream."""

from __future__ import annotations

from tests.planted.bugs.bug import Bug

BATCHES = "tests/unit/kit/test_stream_batches.py"
FAULTS = "tests/integration/kit/test_stream_faults.py"

BUGS = (
    Bug(
        "S2",
        "the client's cursor is stored before the effect",
        "kit/follow_changes.py",
        "        if isinstance(batch, Snapshot):\n",
        "        await self._cursor_store.save(batch.cursor)\n        if isinstance(batch, Snapshot):\n",
        "tests/integration/kit/test_killed_consumer.py::test_a_killed_consumer_repeats_and_never_skips",
    ),
    Bug(
        "S4",
        "the client hands on what has come of a command",
        "kit/stream_batches.py",
        "return None not in ids and ids[0] != ids[1]",
        "return None not in ids",
        f"{BATCHES}::test_a_command_is_never_cut_in_two_wherever_the_connection_breaks",
    ),
    Bug(
        "S8",
        "a cursor that was refused is tried again, and nothing comes any more",
        "kit/follow_changes.py",
        'why=str(error))\n        self._cursor = ""\n',
        "why=str(error))\n",
        "tests/contracts/test_change_stream.py::test_a_log_that_was_restored_leads_to_a_new_snapshot",
    ),
    Bug(
        "client",
        "the long poll is never left again",
        "kit/stream_course.py",
        "if self._until_s is not None and now_s >= self._until_s:",
        "if False:",
        f"{FAULTS}::test_where_a_proxy_buffers_the_long_poll_is_chosen_and_later_the_stream_again",
    ),
    Bug(
        "client",
        "a herd is spread over Retry-After instead of behind it",
        "kit/stream_course.py",
        "outcome.error.retry_after_s * (1 + rng.random())",
        "outcome.error.retry_after_s * rng.random()",
        f"{FAULTS}::test_whoever_is_told_when_to_come_back_does_not_come_before",
    ),
    Bug(
        "client",
        "a page of a proxy ends the client",
        "kit/control_plane.py",
        '    except ValueError as error:\n        why = f"what was answered',
        '    except KeyError as error:\n        why = f"what was answered',
        f"{FAULTS}::test_after_each_fault_everything_has_come_once",
    ),
    Bug(
        "client",
        "a controller that knows no snapshots has an empty fleet",
        "kit/stream_batches.py",
        "        if self.wants_snapshot:\n            why =",
        "        if False:\n            why =",
        f"{BATCHES}::test_a_controller_that_knows_no_snapshots_is_not_taken_for_an_empty_fleet",
    ),
    Bug(
        "client",
        "a cursor file that somebody changed is believed",
        "kit/cursors.py",
        'return kept if digest(kept) == document["digest"] else None',
        "return kept",
        "tests/unit/kit/test_cursors.py::test_a_torn_file_is_no_cursor_wherever_it_is_torn",
    ),
)
