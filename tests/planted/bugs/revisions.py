"""What becomes of a commit."""

from __future__ import annotations

from tests.planted.bugs.bug import Bug

TASKS = "tests/integration/tasks"

BUGS = (
    Bug(
        "guards",
        "the protection in the head counts, not that in the base",
        "reconciler/core/guards.py",
        "*_protected(plan, before),",
        "*_protected(plan, head),",
        "tests/unit/planner/test_marks.py::test_what_is_protected_is_not_removed_until_a_commit_took_that_away",
    ),
    Bug(
        "guards",
        "a protected volume may shrink",
        "reconciler/core/guards.py",
        'command.resource.spec["size_bytes"] < old.spec["size_bytes"]:',
        "False:",
        "tests/unit/planner/test_marks.py::test_the_same_commit_cannot_take_the_protection_away_and_use_that",
    ),
    Bug(
        "guards",
        "what is live loses its protection when its manifest cannot be read",
        "reconciler/git/live_rows.py",
        'Marks(bool(row.get("protect")), row.get("removal") or "")',
        'Marks(False, row.get("removal") or "")',
        "tests/unit/planner/test_marks.py::test_protection_holds_for_a_held_app_as_it_is_live",
    ),
    Bug(
        "guards",
        "the cap on deletions is the program's and not the operator's",
        "reconciler/core/guards.py",
        "count > rules.deletions_max and",
        "count > 10 and",
        "tests/unit/planner/test_marks.py::test_how_much_may_go_at_once_is_the_operators",
    ),
    Bug(
        "commits",
        "a commit is told as seen only after it was judged, however long that takes",
        "reconciler/tasks/git_sync/sync.py",
        "if not judging.done():",
        "if False:",
        f"{TASKS}/test_revisions.py::test_a_commit_is_seen_although_judging_it_does_not_end",
    ),
    Bug(
        "commits",
        "a commit that converged is superseded all the same",
        "reconciler/core/revision_steps.py",
        'OPEN = frozenset({"seen",',
        'OPEN = frozenset({"converged", "seen",',
        f"{TASKS}/test_revisions.py::test_commits_between_two_heads_and_a_refused_head_are_told_that_they_are_over",
    ),
    Bug(
        "commits",
        "a push of very many commits is very many events",
        "reconciler/core/decide/git/steps.py",
        "in revision.passed_over.commits[: SUPERSEDED_MAX - len(told)]:",
        "in revision.passed_over.commits:",
        f"{TASKS}/test_revisions.py::test_a_push_of_very_many_commits_tells_the_newest_and_counts_the_others",
    ),
    Bug(
        "commits",
        "what a merge brought counts as the branch's own",
        "reconciler/git/history.py",
        "walker.simplify_first_parent()",
        "pass",
        f"{TASKS}/test_history.py::test_a_commit_of_a_merged_branch_names_the_merge",
    ),
    Bug(
        "commits",
        "a commit is late while an operator holds it back",
        "reconciler/core/scheduler/convergence.py",
        "frozenset(open_ones - held)",
        "frozenset(open_ones)",
        "tests/unit/scheduler/test_deployments.py"
        "::test_time_in_which_an_operator_holds_it_back_does_not_make_a_revision_late",
    ),
    Bug(
        "commits",
        "a note overwrites what others have pushed",
        "reconciler/git/notes.py",
        'f"{NOTES}:{NOTES}"]',
        'f"+{NOTES}:{NOTES}"]',
        "tests/integration/git/test_notes.py::test_a_push_that_somebody_was_faster_than_is_made_anew",
    ),
    Bug(
        "again",
        "signatures of what is judged again are not asked for since it was applied",
        "reconciler/git/judge.py",
        "        asked = since\n",
        "        pass\n",
        "tests/integration/git/test_judged_again.py::test_signatures_and_confirmations_of_the_commit_count_when_it_is_judged_again",
    ),
    Bug(
        "again",
        "a commit is judged again as often as others change something",
        "reconciler/tasks/git_sync/again.py",
        "now_s >= self._not_before_s and await",
        "await",
        "tests/integration/git/test_judged_again.py::test_judging_again_is_bounded_whatever_others_do",
    ),
    Bug(
        "again",
        "judged again in vain, it is told again",
        "reconciler/tasks/git_sync/sync.py",
        'held_alike(now.revision["held"], judged.held)',
        "False",
        "tests/integration/git/test_judged_again.py::test_a_quota_that_is_raised_brings_the_app_that_was_too_much",
    ),
    Bug(
        "commits",
        "a commit that a merge brought is noted as the branch's own",
        "reconciler/git/history.py",
        "yield Between(str(part.id), str(own.id))",
        'yield Between(str(part.id), "")',
        "tests/integration/tasks/test_notes.py::test_every_commit_between_two_applied_heads_is_noted",
    ),
    Bug(
        "commits",
        "what a refused merge brought is noted as if it had been applied",
        "reconciler/tasks/notes.py",
        ' or row["status"] not in WAS_APPLIED',
        "",
        "tests/integration/tasks/test_notes.py::test_what_a_refused_merge_brought_waits_for_what_is_applied",
    ),
    Bug(
        "commits",
        "notes that are not pushed show nowhere but in the process's log",
        "reconciler/server/status_sources.py",
        'return self.notes_troubles.get(source_id) or self._told_by(f"notes/{source_id}")',
        'return ""',
        "tests/integration/sources/test_notes_trouble.py::test_a_remote_that_takes_no_notes_is_a_problem_of_its_source",
    ),
)
