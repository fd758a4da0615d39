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
        "kit/stream_course.py",
        "BARREN_MAX if _silent(outcome) else self._barren + 1",
        "self._barren + 1",
        "tests/integration/kit/test_follow.py::test_a_stream_that_says_nothing_is_left_for_the_long_poll_at_once",
    ),
    Bug(
        "plans",
        "who comes while a turn is under way is served by it",
        "kit/shared_turn.py",
        "self._running, self._next = self._next, None",
        "self._running = self._next",
        "tests/unit/kit/test_shared_turn.py::test_who_comes_while_it_is_under_way_is_served_by_the_next_together",
    ),
    Bug(
        "plans",
        "a volume that found another home stays in the former one's plan",
        "reconciler/core/plan_rows.py",
        "nodes[node].pop(key)",
        "nodes[node].get(key)",
        "tests/properties/test_plan_rows.py::test_what_is_kept_gives_the_plans_of_all_rows",
    ),
    Bug(
        "plans",
        "an instance that ceases to be ready leaves the routes of its app as they were",
        "reconciler/core/route_book.py",
        'self._stale |= self._routes_of.get(now["app"], set())',
        "pass",
        "tests/properties/test_plan_rows.py::test_what_is_kept_gives_the_plans_of_all_rows",
    ),
    Bug(
        "plans",
        "a version of the routes forgets who left the plan",
        "reconciler/core/route_book.py",
        "changed |= set(before) ^ set(self._order)",
        "pass",
        "tests/properties/test_plan_rows.py::test_what_is_kept_gives_the_plans_of_all_rows",
    ),
    Bug(
        "plans",
        "a route that cannot be planned stops all others",
        "reconciler/core/route_book.py",
        "        except TrueupError as error:",
        "        except ZeroDivisionError as error:",
        "tests/properties/test_plan_rows.py::test_a_route_that_cannot_be_planned_stays_as_it_was_and_stops_no_other",
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
