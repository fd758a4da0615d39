"""The text of a comment: its marker, its size, and what strangers can do to it."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.pull_comment import comment_body, conflict_plan, inputs_key, marker_for, marker_prefix, read_marker

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
    markdown = "\n\n".join(
        conflict_plan(lines[start : start + 5], "main").markdown for start in range(0, len(lines), 5)
    )
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


def test_a_file_with_the_name_of_a_fence_ends_no_code_block() -> None:
    lines = conflict_plan(["```", "@everyone", "````"], "main").markdown.split("\n")
    begin, end = (index for index, line in enumerate(lines) if line.startswith("`````"))
    assert lines[begin + 1 : end] == ["! ```", "! @everyone", "! ````"]


def test_a_conflict_without_paths_is_one_too() -> None:
    assert not conflict_plan([], "main").ok
