"""Quotas, copies, plans of machines."""

from __future__ import annotations

from tests.planted.bugs.bug import Bug

BUGS = (
    Bug(
        "plans",
        "a delta is believed whatever results from it",
        "kit/plan_delta.py",
        'if document.get("digest") and digest(items_of(document)) != document["digest"]:',
        "if False:",
        "tests/integration/kit/test_follow.py::test_a_wrong_delta_is_noticed_and_repaired",
    ),
    Bug(
        "plans",
        "a stream that says nothing is waited for",
        "kit/follow.py",
        '(broke is not None and broke.code == "stream_silent")',
        "False",
        "tests/integration/kit/test_follow.py::test_a_stream_that_says_nothing_is_left_for_the_long_poll_at_once",
    ),
    Bug(
        "restores",
        "a user of a volume is placed while a restore fills it",
        "reconciler/core/scheduler/placement.py",
        "if restore := self._snapshot.restoring.get(mount.volume_id):",
        'if restore := "":',
        "tests/unit/scheduler/test_stateful.py::test_nothing_that_uses_a_volume_is_placed_while_a_restore_fills_it",
    ),
    Bug(
        "restores",
        "a restore is not the writer of the volume that it fills",
        "reconciler/core/copies.py",
        '"volume_id", writes=True)',
        '"volume_id")',
        "tests/unit/scheduler/test_stateful.py::test_a_pass_that_did_not_know_of_the_restore_does_not_get_through",
    ),
    Bug(
        "quotas",
        "a machine costs a project nothing",
        "reconciler/core/scheduler/record.py",
        '"overhead_bytes": action.overhead_bytes,',
        '"overhead_bytes": 0,',
        "tests/unit/scheduler/test_quota.py::test_memory_is_limited_as_the_scheduler_takes_it_machine_included",
    ),
    Bug(
        "quotas",
        "what was allocated by an older version counts as today",
        "reconciler/core/upcasts.py",
        '{**payload, "overhead_bytes": 0}',
        '{**payload, "overhead_bytes": 176160768}',
        "tests/unit/scheduler/test_quota.py::test_what_was_allocated_before_machines_counted_counts_as_it_did",
    ),
)
