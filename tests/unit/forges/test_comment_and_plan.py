"""The text of a comment: its marker, its size, and what strangers can do to it."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.findings import Finding
from reconciler.core.plan_markdown import clean, render_conflict, render_plan
from reconciler.core.pull_comment import comment_body, inputs_key, marker_for, marker_prefix, read_marker
from tests.unit.planner.trees import ENVIRONMENT, app, planned

HEAD = "a" * 40
KEY = inputs_key(HEAD, "b" * 40, "")


def test_a_marker_is_read_back() -> None:
    marker = marker_for("main", HEAD, KEY, "text")
    assert read_marker(comment_body(marker, "text", 1000)) == marker
    assert str(marker).startswith(marker_prefix("main"))
    assert not str(marker).startswith(marker_prefix("mai"))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "text",
        "text\n" + str(marker_for("main", HEAD, KEY, "")),
        str(marker_for("main", HEAD, KEY, ""))[:-5],
        "<!-- -->",
    ],
)
def test_what_is_no_marker(body: str) -> None:
    assert read_marker(body) is None


def test_each_input_is_part_of_the_key() -> None:
    keys = {inputs_key(*each) for each in (("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x"))}
    assert len(keys) == 4


@given(
    lines=st.lists(st.text(string.ascii_letters + "`é \u202e<>-", max_size=80), max_size=60),
    chars_max=st.integers(600, 4000),
)
def test_whatever_the_plan_it_fits_and_ends_outside_of_code(lines: list[str], chars_max: int) -> None:
    findings = [Finding(line, 1, 1, "", "code", line, line) for line in lines]
    markdown = render_plan(None, findings).markdown
    body = comment_body(marker_for("main", HEAD, KEY, markdown), markdown, chars_max)
    assert len(body) <= chars_max
    assert read_marker(body) is not None
    assert ("more lines do not fit" in body) == (
        len(f"{marker_for('main', HEAD, KEY, markdown)}\n{markdown}") > chars_max
    )
    fence = ""
    for line in body.split("\n")[1:]:
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line.removesuffix("text").removesuffix("diff")
        else:
            assert "<" not in line
    assert not fence


def test_a_plan_says_what_changes_where() -> None:
    plan = planned({"e.yaml": ENVIRONMENT}, {"e.yaml": ENVIRONMENT, "a.yaml": app()})
    rendered = render_plan(plan, ())
    assert (rendered.ok, rendered.summary) == (True, "1 to create")
    assert "+ create prod/app/site  a.yaml:1" in rendered.markdown
    assert render_plan(planned({"e.yaml": ENVIRONMENT}, {"e.yaml": ENVIRONMENT}), ()).summary == "no changes"


def test_a_refusal_comes_first_and_warnings_do_not_refuse() -> None:
    warning = Finding("a.yaml", 1, 0, "", "w", "careful", severity="warning")
    error = Finding("b.yaml", 2, 3, "", "e", "wrong", "right")
    rendered = render_plan(None, [warning, error])
    assert (rendered.ok, rendered.summary) == (False, "would be refused, 1 error; b.yaml:2:3: wrong")
    assert "    right" in rendered.markdown
    assert render_plan(None, [warning]).ok


def test_a_file_with_the_name_of_a_fence_ends_no_code_block() -> None:
    lines = render_conflict(["```", "@everyone", "````"], "main").markdown.split("\n")
    begin, end = (index for index, line in enumerate(lines) if line.startswith("`````"))
    assert lines[begin + 1 : end] == ["```", "@everyone", "````"]


def test_a_conflict_without_paths_is_one_too() -> None:
    assert not render_conflict([], "main").ok


def test_clean_text_is_one_visible_line() -> None:
    assert clean("a\nb\r\x00\u202ec\ud800") == "a\\x0ab\\x0d\\x00\\x202ec\\xd800"
