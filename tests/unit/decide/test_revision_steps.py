"""What is told of a commit beside its being applied or refused: which events, once, within bounds, in one batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.core.commands import Append
from reconciler.core.decide.git import GitState, decide_refused, decide_revision, decide_seen
from reconciler.core.events import Cause
from reconciler.core.findings import Finding
from reconciler.core.revision_steps import SUPERSEDED_MAX, counts_of
from reconciler.core.revisions import CommitInfo, PassedOver, Refused, RevisionApplied, RevisionRefused, RevisionSeen

BASE, COMMIT, OTHER = "b" * 40, "c" * 40, "d" * 40
CAUSE = Cause("user", "ann", "acme", "main", COMMIT)
COUNTS = counts_of(["create", "create", "delete", "mark"], resources=7, held=1)
SEEN = RevisionSeen(CAUSE, "main", COMMIT, BASE, "ann", "a change", 3, "#12")
APPLIED = RevisionApplied("apply", CAUSE, "main", COMMIT, BASE, "ann", "a change", counts=COUNTS)
REFUSED = RevisionRefused(
    "refuse", CAUSE, "main", COMMIT, BASE, "ann", "a change", (Finding("a", 1, 1, "", "c", "m", ""),)
)


def row(status: str, commit: str = COMMIT, source_id: str = "main", updated: int = 5, **more: Any) -> dict[str, Any]:
    return {
        "status": status, "commit": commit, "source_id": source_id, "updated_event_id": updated, "aggregate_seq": 4,
        "author": "ben", "subject": "theirs", **more,
    }  # fmt: skip


def state(mine: dict[str, Any] | None = None, *others: dict[str, Any], applied: str = BASE) -> GitState:
    rows = {f"{each['source_id']}@{each['commit']}": each for each in (*others, *([mine] if mine else []))}
    return GitState({}, {}, {}, revision=mine, source={"applied_commit": applied}, revisions=rows)


def told(append: Append | None) -> list[str]:
    return [event.event_type.partition(".")[2] for event in append.events] if append else []


def batch(of: GitState, revision: RevisionApplied) -> tuple[Append, ...]:
    decided = decide_revision(of, revision, [])
    assert not isinstance(decided, Refused)
    return decided


@pytest.mark.parametrize("status", ["seen", "refused", "validated", "planned"])
def test_a_commit_that_is_known_and_not_over_is_not_seen_again(status: str) -> None:
    assert decide_seen(state(row(status)), SEEN) is None


@pytest.mark.parametrize("status", ["applied", "failed", "converged", "superseded"])
def test_a_commit_that_was_over_is_seen_anew_under_another_command(status: str) -> None:
    first, anew = decide_seen(state(), SEEN), decide_seen(state(row(status)), SEEN)
    assert first and anew and told(anew) == ["seen"]
    assert first.command_id != anew.command_id
    assert anew.expected == {("revision", f"main@{COMMIT}"): 4}
    assert decide_seen(state(row(status), applied=COMMIT), SEEN) is None, "what is applied now is not news"


def test_seen_says_how_far_it_is_ahead_and_where_it_says_to_come_from() -> None:
    append = decide_seen(state(), SEEN)
    assert append is not None
    assert append.events[0].payload == {
        "source_id": "main", "commit": COMMIT, "base": BASE, "author": "ann", "subject": "a change", "commits": 3,
        "pull_request": "#12",
    }  # fmt: skip


def test_what_was_judged_is_told_with_what_became_of_it() -> None:
    (applied,) = batch(state(row("seen")), APPLIED)
    assert told(applied) == ["validated", "planned", "applied"]
    planned = applied.events[1].payload
    assert (planned["created"], planned["removed"], planned["updated"], planned["held"]) == (2, 1, 1, 1)
    assert applied.events[0].payload["resources"] == 7
    refused = decide_refused(state(row("seen")), replace(REFUSED, counts=COUNTS))
    assert told(refused) == ["validated", "planned", "refused"]
    assert told(decide_refused(state(row("seen")), REFUSED)) == ["refused"], "it could not be planned"


def test_a_plan_that_was_told_is_not_told_again() -> None:
    known = row("refused", planned={"base": BASE, **COUNTS.document()})
    assert told(batch(state(known), APPLIED)[0]) == ["applied"]
    for other in (replace(APPLIED, base=OTHER), replace(APPLIED, counts=replace(COUNTS, created=3))):
        assert told(batch(state(known), other)[0]) == ["validated", "planned", "applied"]
    over = {**known, "status": "superseded"}
    assert told(batch(state(over), APPLIED)[0]) == ["validated", "planned", "applied"], "another life"


def test_a_commit_that_was_not_told_as_seen_is_with_what_became_of_it() -> None:
    (applied,) = batch(state(), replace(APPLIED, seen=SEEN))
    assert told(applied) == ["seen", "validated", "planned", "applied"]
    (anew,) = batch(state(row("converged")), replace(APPLIED, seen=SEEN))
    assert told(anew) == ["seen", "validated", "planned", "applied"]
    (known,) = batch(state(row("seen")), replace(APPLIED, seen=SEEN))
    assert told(known) == ["validated", "planned", "applied"]
    assert told(decide_refused(state(), replace(REFUSED, seen=SEEN))) == ["seen", "refused"]


def test_a_refusal_is_one_command_for_as_long_as_the_commit_is_not_seen_anew() -> None:
    """Whether it was told as seen by itself, with the first refusal, or by a version that told of no such thing."""
    refused = replace(REFUSED, seen=SEEN)
    once = [None, row("seen", lives=1), row("refused", lives=1), row("refused")]
    anew = [row("superseded", lives=1), row("seen", lives=2), row("refused", lives=2)]
    ids = []
    for lives in (once, anew):
        appends = [decide_refused(state(mine), refused) for mine in lives]
        ids.append({append.command_id for append in appends if append})
    assert [len(each) for each in ids] == [1, 1] and ids[0] != ids[1]


def test_all_that_it_takes_the_place_of_is_told_in_one_append_of_the_same_batch() -> None:
    others = [
        row(status, f"{number:040x}", updated=number)
        for number, status in enumerate(("seen", "refused", "applied", "failed", "converged", "superseded"), start=1)
    ]
    foreign = row("applied", "f" * 40, source_id="other")
    passed = PassedOver(2, (CommitInfo("e" * 40, "eve", "words"), CommitInfo(f"{2:040x}", "x", "known already")))
    applied, over = batch(state(row("seen"), *others, foreign), replace(APPLIED, passed_over=passed))
    assert told(over) == ["superseded"] * 5
    said = {event.payload["commit"]: event.payload for event in over.events}
    assert {each[-1]: payload["was"] for each, payload in said.items()} == {
        "1": "seen", "2": "refused", "3": "applied", "4": "failed", "e": "",
    }  # fmt: skip
    assert all(payload["by"] == COMMIT for payload in said.values())
    assert said["e" * 40]["author"] == "eve" and said[f"{2:040x}"]["author"] == "ben"
    assert over.expected[("revision", "main@" + "e" * 40)] == 0 and set(over.expected.values()) == {0, 4}
    assert over.command_id.startswith(f"{applied.command_id}/")


def test_at_most_so_many_are_told_the_newest_first() -> None:
    others = [row("refused", f"{number:040x}", updated=number) for number in range(1, SUPERSEDED_MAX)]
    passed = PassedOver(50, tuple(CommitInfo(f"{number:02x}" * 20, "eve", "w") for number in range(0xA0, 0xB0)))
    _, over = batch(state(row("seen"), *others), replace(APPLIED, passed_over=passed))
    assert len(over.events) == SUPERSEDED_MAX
    assert over.events[0].payload["commit"] == f"{SUPERSEDED_MAX - 1:040x}"
    assert over.events[-1].payload["commit"] == "a0" * 20
