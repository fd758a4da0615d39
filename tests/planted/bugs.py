"""The list: for each promise, one-line changes that break it, and the test that then fails.

`path` holds `old` exactly once; tests/unit/test_planted_bugs.py sees to that, so a change of that line is a change of
this list. Choose lines that carry the promise, and of those the ones that change least.
"""

from __future__ import annotations

from dataclasses import dataclass, field

STORE = "tests/integration/store"
MIRROR = "tests/properties/test_mirror_equals_views.py"
JOINING = "tests/properties/test_joining.py"


@dataclass(frozen=True, slots=True)
class Bug:
    """`promise`: L1 to P6, or what else. `what`: the bug in words. `test`: FILE::NAME. `environ`: for its run."""

    promise: str
    what: str
    path: str
    old: str
    new: str
    test: str
    environ: dict[str, str] = field(default_factory=dict)


BUGS = (
    Bug(
        "L1",
        "Postgres acknowledges before it has written",
        "reconciler/store/server.py",
        '"synchronous_commit": "on"',
        '"synchronous_commit": "off"',
        f"{STORE}/test_durability.py::test_L1_every_acknowledged_append_is_there_after_kill_9",
        {"TRUEUP_KILL_ROUNDS": "12"},
    ),
    Bug(
        "L2",
        "an append looks without taking the lock of the head",
        "reconciler/store/sql/0039_look_before_append.sql",
        "FROM trueup.log_head head FOR UPDATE;",
        "FROM trueup.log_head head;",
        f"{STORE}/test_event_log.py::test_L2_two_writers_that_commit_in_reverse_cannot",
    ),
    Bug(
        "L3",
        "a command id with another body counts as the same command",
        "reconciler/store/placement.py",
        "if seen.body_hash != append.body_hash:",
        "if False:",
        f"{STORE}/test_event_log.py::test_L3_the_same_id_with_another_body_is_refused",
    ),
    Bug(
        "L3",
        "after a lost connection nobody looks whether the command is there already",
        "reconciler/store/placement.py",
        "seen = known.commands.get(append.command_id)",
        "seen = None",
        f"{STORE}/test_unknown_outcome.py::test_L3_a_command_whose_commit_was_cut_is_appended_once",
    ),
    Bug(
        "L4",
        "the expected version is not compared",
        "reconciler/store/placement.py",
        "fits = version.aggregate_seq == expected or (expected == 0 and version.ended)",
        "fits = True",
        f"{STORE}/test_event_log.py::test_L4_a_wrong_expected_version_appends_nothing",
    ),
    Bug(
        "L4",
        "of an atomic batch with a conflict the rest is appended",
        "reconciler/store/placement.py",
        "if atomic and part.conflicts:",
        "if False:",
        f"{STORE}/test_event_log.py::test_L4_an_atomic_batch_is_all_or_nothing_and_says_so_for_each",
    ),
    Bug(
        "L4",
        "a claim that somebody else holds is taken",
        "reconciler/store/placement.py",
        "if owner and owner != claim.owner:",
        "if False:",
        "tests/machines/test_log_machine.py::test_L1_L2_L3_L4_P1_the_log_keeps_to_its_model",
        {"TRUEUP_MACHINE_EXAMPLES": "40", "TRUEUP_MACHINE_SHRINK": "no"},
    ),
    Bug(
        "L4",
        "a repetition within a batch that was undone is answered as appended",
        "reconciler/store/placement.py",
        "(result.duplicate and result.command_id not in undone)",
        "result.duplicate",
        f"{STORE}/test_event_log.py::test_L4_nor_does_its_repetition_in_a_batch_make_a_command_appended",
    ),
    Bug(
        "L5",
        "verify looks at the numbers and not at the hashes",
        "reconciler/store/verify.py",
        "if now != row[18]:",
        "if False:",
        f"{STORE}/test_chain.py::test_L5_the_first_bad_event_is_named",
    ),
    Bug(
        "L5",
        "an exported head counts as held as soon as its event is there",
        "reconciler/store/heads.py",
        "if stored.get(head.event_id) != head.hash:",
        "if head.event_id not in stored:",
        f"{STORE}/test_chain.py::test_L5_a_cut_or_rewritten_log_shows_beside_an_exported_head",
    ),
    Bug(
        "L5",
        "an exporter signs whatever the log says now",
        "reconciler/store/head_exporter.py",
        "if bad:",
        "if False:",
        f"{STORE}/test_head_export.py::test_L5_an_exporter_signs_nothing_that_speaks_against_what_it_signed",
    ),
    Bug(
        "L5",
        "a head does not have to follow one before it",
        "reconciler/store/heads.py",
        'if earlier is not None and document["previous"] not in earlier:',
        "if False:",
        f"{STORE}/test_head_export.py::test_a_head_that_a_crash_cut_off_is_passed_over_and_none_can_be_made_to_look_so",
    ),
    Bug(
        "L5",
        "an archive is believed when its digests fit",
        "reconciler/store/archive_chain.py",
        "if now != stored:",
        "if False:",
        f"{STORE}/test_archive.py::test_L5_an_archive_that_was_changed_together_with_its_manifest_is_found",
    ),
    Bug(
        "L5",
        "the application may write events past the functions",
        "reconciler/store/sql/0041_append_rights.sql",
        "REVOKE INSERT ON trueup.events, trueup.commands FROM trueup_app;",
        "",
        f"{STORE}/test_roles.py::test_L5_each_log_in_does_its_own_work_only",
    ),
    Bug(
        "L5",
        "the log-in that migrates has the owner's rights without asking for them",
        "reconciler/store/roles.py",
        "CREATE ROLE {MIGRATE_ROLE} NOINHERIT",
        "CREATE ROLE {MIGRATE_ROLE} INHERIT",
        f"{STORE}/test_roles.py::test_L5_each_log_in_does_its_own_work_only",
    ),
    Bug(
        "L5",
        "the owner may update events",
        "reconciler/store/sql/0004_events_append_only.sql",
        "BEFORE UPDATE OR DELETE OR TRUNCATE",
        "BEFORE DELETE OR TRUNCATE",
        f"{STORE}/test_roles.py::test_L5_the_trigger_stops_the_owner_and_a_superuser_too",
    ),
    Bug(
        "L6",
        "somebody left a print in the delivery of secrets",
        "reconciler/secret_delivery.py",
        "return self._vault.seal(self._vault.secret_file(values), node",
        "print(values, flush=True); return self._vault.seal(self._vault.secret_file(values), node",
        "tests/integration/cli/test_no_secret.py::test_L6_a_secret_is_in_nothing_that_the_controller_writes_or_says",
    ),
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
    Bug(
        "leases",
        "a holder whose term is over still appends",
        "reconciler/store/placement.py",
        "_fence_conflict(append, known.epochs)\n        or",
        "None\n        or",
        f"{STORE}/test_leases.py::test_what_an_older_holder_appends_is_refused",
    ),
    Bug(
        "leases",
        "the next holder does not wait for what the one before is appending",
        "reconciler/store/leases.py",
        "await connection.execute(LOCK_HEAD)",
        "pass",
        f"{STORE}/test_leases.py::test_nothing_of_an_older_holder_comes_after_the_acquisition",
    ),
    Bug(
        "leases",
        "a holder that cannot renew goes on",
        "reconciler/leadership.py",
        "if begun_s >= term.sure_until_s:",
        "if False:",
        "tests/integration/tasks/test_leadership.py::test_a_holder_that_is_cut_off_stops_before_the_next_one_begins",
    ),
    Bug(
        "migrations",
        "a migration waits for its locks as long as it takes, and everybody behind it",
        "reconciler/store/patience.py",
        "await connection.execute(LIMITS)",
        "pass",
        f"{STORE}/test_migrate_online.py::test_a_migration_that_cannot_get_its_locks_lets_the_others_go_on",
    ),
    Bug(
        "scale",
        "a row that went stays in memory",
        "reconciler/store/view_mirror.py",
        "changed.pop(key, None)",
        "pass",
        f"{MIRROR}::test_a_row_that_goes_is_gone",
    ),
    Bug(
        "scale",
        "what a rebuild mended is not read again",
        "reconciler/store/view_mirror.py",
        "kept.generation == generation and ",
        "",
        f"{MIRROR}::test_what_a_rebuild_mends_is_read_again",
    ),
    Bug(
        "scale",
        "a snapshot that somebody works on changes under his hands",
        "reconciler/store/view_mirror.py",
        "changed = dict(rows)",
        "changed: Any = rows",
        f"{MIRROR}::test_a_snapshot_never_changes",
    ),
    Bug(
        "scale",
        "two routes of different apps get one hostname, when they are declared by different commits",
        "reconciler/core/incremental.py",
        "if listeners.setdefault(_listener(each), each.id) != each.id:",
        "if False:",
        f"{JOINING}::test_what_another_app_holds_is_seen",
    ),
    Bug(
        "scale",
        "only the files that changed are checked, and not the rest of their apps",
        "reconciler/core/incremental.py",
        "apps = {_app_of(each.resource.id) for each in (*old, *new)}",
        "apps = {_app_of(each.resource.id) for each in new}",
        f"{JOINING}::test_joined_onto_another_a_tree_is_what_it_is",
    ),
    Bug(
        "scale",
        "a file that other files inherit from counts as plain",
        "reconciler/core/language/outline.py",
        "self.opaque or self.environments or self.overlays or self.defaults",
        "self.opaque or self.environments or self.overlays",
        "tests/properties/test_layers.py",
    ),
    Bug(
        "scale",
        "a commit may declare fewer resources than a source",
        "reconciler/store/limits.py",
        "APPEND_COMMANDS_MAX = 40_960",
        "APPEND_COMMANDS_MAX = 4_096",
        "tests/unit/decide/test_large_commits.py",
    ),
)
