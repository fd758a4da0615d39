"""Pull requests are untrusted: whatever a manifest, path or commit says, the comment stays ours, and no secret shows.

The Markdown is checked the way a forge reads it: what is left outside of code spans and fenced blocks must be ours.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.codec import to_json
from reconciler.cli.output import plain
from reconciler.cli.plan import page, plan_offline
from reconciler.core.difference import FieldChange
from reconciler.core.findings import Finding
from reconciler.core.preview.document import (
    Confirmation,
    EnvironmentUse,
    Gap,
    NodeUse,
    PlanDocument,
    PlannedChange,
    RollOut,
    RollOutStep,
    RouteEffect,
)
from reconciler.core.preview.imagined import ImaginedFleet
from reconciler.core.preview.markdown import COMMENT_CHARS_MAX, SUMMARY_CHARS_MAX, block, cell, code, markdown, rendered
from tests.integration.git.repository import Repository
from tests.unit.planner.trees import ENVIRONMENT, app, secret

HOSTILE = (
    "`",
    "```",
    "`` ` ```` `",
    "``` \n```\n# a heading",
    "<script>alert(1)</script>",
    "</details></summary><img src=x onerror=alert(1)>",
    "@everyone @org/team",
    "[click](javascript:alert(1)) ![x](https://evil.example/x.png)",
    "| a | b |\n|---|---|",
    "\\| \\\\| \\`",
    "Closes #1, fixes org/repo#2",
    "\n/merge\n/approve",
    "atlantis apply",
    "<!-- trueup plan -->",
    "-->",
    "&lt;b&gt; &#64;everyone",
    "~~~\ntext\n~~~",
    "\x1b[31mred\x07\x00",
    "\u202egnp.exe\u2066\u200b",
    "line\u2028separator\u2029",
    "a" * 5000,
    "`" * 5000,
)
texts = (
    st.sampled_from(HOSTILE) | st.text(st.sampled_from("`|\\<>@#*_[]()!~&\n\r -/a"), max_size=40) | st.text(max_size=20)
)


def hostile_plan(text: str, count: int = 1) -> PlanDocument:
    """A plan that says it wherever somebody else's text can be."""
    step = RollOutStep(1, "start", text, text, text)
    roll_out = RollOut(
        text, text, text, True, True, 1, 1, 1, 1, 1, 1, 0, 1, Gap(1, 2, 3.0), (step,), {text: 1}, text, text, text, 1.0
    )
    change = PlannedChange("update", text, text, text, 1, text, 2, text, (FieldChange(text, text, [text]),), text)
    return PlanDocument(
        source_id=text,
        commit=text,
        base=text,
        applied=text,
        author=text,
        subject=text,
        fleet="live",
        event_id=1,
        ok=True,
        complete=True,
        summary=text,
        changes=(change,) * count,
        roll_outs=(roll_out,) * count,
        routes=(RouteEffect(text, text, 443, text, "backends", text),) * count,
        nodes=(NodeUse(text, 1, 1, 1, 1, 1, 1),),
        environments=(EnvironmentUse(text, 1, 1, 1, 1),),
        confirmations=(Confirmation(text, text, text),),
        findings=(Finding(text, 1, 1, text, text, text, text),) * count,
        notes=(text,),
    )


OURS = re.compile(
    r"<!-- trueup plan -->|### trueup plan: [a-z ]+|"
    r"</?details(?: open)?>|</?summary>|findings|changes|roll-outs|routes|nodes|environments|moving anyway|"
    r"what this plan does not know|\*\*(?:Effect|Refused):\*\*|"
    r"To confirm what is held back, end the message of a commit \(it may be empty\) with:|"
    r"Not shown, because a comment has a limit: [a-z ,-]*\.|shows all\.|"
    r"from|nothing|planned on the live fleet as it was at event \d+|"
    r"planned without a fleet: room is taken for granted|"
    r"and|more processes|errors|warnings|"
    r"[ \n|\d,;.-]"
)


def outside_of_code(text: str) -> str:
    """What is left when fenced blocks, then code spans, are taken away by the rules of CommonMark."""
    left, fence = [], ""
    for line in text.split("\n"):
        opened = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if fence:
            if re.fullmatch(rf" {{0,3}}{fence[0]}{{{len(fence)},}}\s*", line):
                fence = ""
        elif opened:
            fence = opened[1]
        else:
            left.append(_without_spans(line))
    assert not fence, "a block is left open"
    return "\n".join(left)


def _without_spans(line: str) -> str:
    """A span ends at the first run of backticks as long as the one that began it, on the same line here."""
    found, rest = "", line
    while match := re.search("`+", rest):
        end = re.search(rf"(?<!`){match[0]}(?!`)", rest[match.end() :])
        if end is None:
            return found + rest
        found += rest[: match.start()]
        rest = rest[match.end() + end.end() :]
    return found + rest


def cells(line: str) -> int:
    """As a table's row is split before anything in it is read."""
    return len(re.split(r"(?<!\\)\|", line.strip("|")))


def check(text: str) -> None:
    assert OURS.sub("", outside_of_code(text)) == "", repr(OURS.sub("", outside_of_code(text))[:300])
    for line in text.split("\n"):
        if line.startswith("|"):
            assert cells(line) == 2, line
    assert len(text) <= COMMENT_CHARS_MAX
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200b\u2028\u2029]", text)
    inside = re.findall(r"^(`{3,})text\n(.*?)\n\1$", text, re.S | re.M)
    for _, lines in inside:
        assert all(line[:1] in "+~>-!? " for line in lines.split("\n")), "a forge could take a line for a command"


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_foreign_leaves_its_code(text: str) -> None:
    check(markdown(hostile_plan(text)))


@settings(max_examples=300, deadline=None)
@given(texts)
def test_nothing_foreign_leaves_its_code_whatever_it_is(text: str) -> None:
    check(markdown(hostile_plan(text)))
    assert "\n" not in code(text) + cell(text)
    assert "|" not in cell(text)
    assert outside_of_code(block([f"  {text}"])) == ""


def test_a_comment_and_a_status_are_bounded() -> None:
    for text in ("a" * 5000, "`" * 300, "ä" * 3000):
        made = rendered(hostile_plan(text, count=2000))
        check(made.markdown)
        assert len(made.summary) <= SUMMARY_CHARS_MAX
        assert "\n" not in made.summary
    assert "Not shown, because a comment has a limit" in markdown(hostile_plan("a" * 300, count=2000))


def test_a_terminal_is_given_no_control_character() -> None:
    for text in HOSTILE:
        told = plain(page(hostile_plan(text)))
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200b]", told)


CANARY_CIPHER = "Q0FOQVJZLWNpcGhlcnRleHQtQ0FOQVJZ"
CANARY_PLAIN = "hunter2-canary-plaintext"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def renderings(plan: PlanDocument) -> list[str]:
    made = rendered(plan)
    return [json.dumps(to_json(plan)), made.markdown, made.summary, plain(page(plan))]


@pytest.mark.parametrize("fleet", [None, ImaginedFleet(2, 8 << 30)])
def test_no_secret_shows_in_any_rendering(repository: Repository, fleet: ImaginedFleet | None) -> None:
    """Not its ciphertext, not where that is, and not what somebody wrote in the clear by mistake."""
    first = {"env.yaml": ENVIRONMENT, "app.yaml": app(more="      secrets: [keys]\n"), "keys.yaml": secret("keys")}
    base = repository.commit(first)
    changed = secret("keys", CANARY_CIPHER)
    sealed = repository.commit({"keys.yaml": changed})
    clear = repository.commit({"keys.yaml": changed.replace("KEY: |", f"KEY: {CANARY_PLAIN}\n    OTHER: |")})
    blob = repository.git("rev-parse", f"{sealed}:keys.yaml")
    for before, after in (("", base), (base, sealed), (sealed, clear), ("", sealed), (sealed, base)):
        plan = plan_offline(repository.path, base=before, head=after, fleet=fleet)
        assert plan.changes or plan.findings or plan.held
        for text in renderings(plan):
            for canary in (CANARY_CIPHER, CANARY_PLAIN, blob, blob[:12], "BEGIN AGE"):
                assert canary not in text
    plan = plan_offline(repository.path, base=base, head=sealed, fleet=fleet)
    (change,) = [each for each in plan.changes if each.verb == "update"]
    assert [field.path for field in change.fields] == ["spec.version_id"]
    assert [(each.process, each.starts) for each in plan.roll_outs] == [("web", 1)]


def test_hostile_names_in_a_repository(repository: Repository) -> None:
    base = repository.commit({"env.yaml": ENVIRONMENT, "app.yaml": app()})
    name = "a`b|@everyone <img src=x>.yaml"
    evil = app(more="      env: {TEXT: '``` </details> @everyone | [x](javascript:1)'}\n")
    head = repository.commit(
        {name: evil}, remove=("app.yaml",), message="`@everyone` <script> | </details>\n\nTrueup-Confirm-Delete: `x`"
    )
    plan = plan_offline(repository.path, base=base, head=head)
    check(markdown(plan))
    document: Any = to_json(plan)
    assert document["changes"][0]["path"] == name or document["findings"], "the path is told as it is in JSON"
