"""One bad app holds nobody back."""

from __future__ import annotations

from tests.planted.bugs.bug import Bug

BUGS = (
    Bug(
        "one bad app",
        "the next commit after a held app is compared with the applied commit's tree",
        "reconciler/git/applied.py",
        "if self.base is None or self.held or errors(self.base.findings):",
        "if self.base is None or errors(self.base.findings):",
        "tests/integration/git/test_held_apps.py::test_a_hostname_of_another_source_holds_back_only_who_wants_it",
    ),
    Bug(
        "one bad app",
        "an unreadable file holds back only what it still says, not what lives from it",
        "reconciler/core/isolation/situation.py",
        "return frozenset((*self.live.by_path.get(path, ()), *named, *held))",
        "return frozenset(held)",
        "tests/unit/isolation/test_one_bad_app.py::test_what_lives_from_below_unreadable_defaults_stays",
    ),
    Bug(
        "one bad app",
        "what may have moved into an unreadable file is deleted",
        "reconciler/core/isolation/blame.py",
        "if not changed:",
        "if True:",
        "tests/unit/isolation/test_one_bad_app.py::test_nothing_is_deleted_while_a_new_file_cannot_be_read",
    ),
    Bug(
        "one bad app",
        "a hostname that a held app keeps is given to another",
        "reconciler/core/isolation/isolation.py",
        "wanted = {listener_of(each) for each in kept}",
        "wanted = set[Listener]()",
        "tests/unit/isolation/test_one_bad_app.py::test_a_held_app_keeps_its_hostname_and_who_wants_it_waits",
    ),
    Bug(
        "one bad app",
        "the resources of a held app that are gone from the tree are deleted",
        "reconciler/core/planner.py",
        "else str(owner) not in held",
        "else True",
        "tests/properties/test_one_bad_app.py::test_the_others_are_as_if_the_bad_change_had_not_been_made",
    ),
    Bug(
        "one bad app",
        "an overlay in a file that became unreadable is forgotten",
        "reconciler/core/isolation/situation.py",
        "if app and path in files)",
        "if False)",
        "tests/unit/isolation/test_one_bad_app.py::test_an_overlay_with_a_mistake_holds_back_what_it_lies_over",
    ),
    Bug(
        "one bad app",
        "one signer is enough for what a held app hides",
        "reconciler/git/judge.py",
        "(applied.envs(after) if back else frozenset())",
        "frozenset()",
        "tests/integration/git/test_held_apps.py::test_two_signers_are_asked_for_also_for_what_is_held_back",
    ),
    Bug(
        "one bad app",
        "an app that is released stays marked as held back",
        "reconciler/git/judge.py",
        "for app in applied.held if app and app not in back",
        "for app in () if app",
        "tests/integration/git/test_held_apps.py::test_an_applied_revision_says_what_it_left_out",
    ),
)
