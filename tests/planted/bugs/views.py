"""Views of the log."""

from __future__ import annotations

from tests.planted.bugs.bug import Bug

STORE = "tests/integration/store"

BUGS = (
    Bug(
        "P1",
        "a page is folded onto nothing instead of onto the stored rows",
        "reconciler/store/view_writer.py",
        "folding.rows.update(await read_rows(connection, table_of(projection.name), wanted))",
        "await read_rows(connection, table_of(projection.name), wanted)",
        f"{STORE}/test_views.py::test_P1_a_rebuild_equals_the_incremental_result_byte_for_byte",
    ),
    Bug(
        "P2",
        "rows and checkpoint are not in one transaction",
        "reconciler/store/view_writer.py",
        'f"write a page of view {name}") as connection, connection.transaction():',
        'f"write a page of view {name}") as connection:',
        f"{STORE}/test_views.py::test_P2_a_crash_between_rows_and_checkpoint_leaves_neither",
    ),
    Bug(
        "P3",
        "a wait ends one event too early",
        "reconciler/store/views.py",
        "if self._checkpoints.get(name, 0) < event_id]",
        "if self._checkpoints.get(name, 0) < event_id - 1]",
        f"{STORE}/test_views.py::test_P3_wait_for_returns_when_the_views_have_come_so_far",
    ),
    Bug(
        "P3",
        "a wait that is in vain answers as if all were well",
        "reconciler/store/views.py",
        "raise self._timed_out(event_id, behind[0], timeout_s)",
        "return",
        "tests/integration/server/test_sessions.py::test_P3_a_read_that_is_in_vain_ends_in_time_and_says_how_far_the_view_is",
    ),
    Bug(
        "P3",
        "a row is read before it is known how new it has to be",
        "reconciler/server/reads.py",
        "        await self._wait(request, (view,))\n",
        "",
        "tests/integration/server/test_sessions.py::test_P3_a_read_that_is_in_vain_ends_in_time_and_says_how_far_the_view_is",
    ),
    Bug(
        "P4",
        "a snapshot reads rows and checkpoint at different moments",
        "reconciler/store/views.py",
        'isolation="repeatable_read"',
        'isolation="read_committed"',
        f"{STORE}/test_rebuild.py::test_P4_a_snapshot_shows_rows_and_checkpoint_of_one_moment",
    ),
    Bug(
        "P5",
        "an old payload is given out as a new one without the step between them",
        "reconciler/core/upcasts.py",
        "version, payload = version + 1, step(payload)",
        "version, payload = version + 1, payload",
        "tests/unit/projections/test_golden_log.py::test_P5_a_rebuild_reads_an_old_version_in_the_words_of_today",
    ),
    Bug(
        "P6",
        "a rebuild keeps readers out while it finishes",
        "reconciler/store/rebuild.py",
        "await connection.execute(TAKE_VIEW, lock_name(name))",
        'await connection.execute(f"LOCK TABLE view_{name} IN ACCESS EXCLUSIVE MODE")',
        f"{STORE}/test_rebuild.py::test_P6_who_reads_in_the_middle_of_a_rebuild_sees_the_rows_from_before",
    ),
)
