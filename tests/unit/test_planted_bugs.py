"""The list of planted bugs is whole and fits the tree. That each bug is caught, `make planted` shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.planted.bugs import BUGS, Bug
from tests.planted.page import PAGE, render

ROOT = Path(__file__).parents[2]


def test_each_promise_of_the_log_and_of_the_views_has_a_bug() -> None:
    assert {bug.promise for bug in BUGS} >= {f"{letter}{number}" for letter in "LP" for number in range(1, 7)}


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what for bug in BUGS])
def test_the_line_is_there_once_and_the_test_exists(bug: Bug) -> None:
    assert (ROOT / bug.path).read_text().count(bug.old) == 1, "the line has changed: change the bug with it"
    file, _, name = bug.test.partition("::")
    assert re.search(rf"def {name}\(", (ROOT / file).read_text())


def test_the_page_is_the_list() -> None:
    assert (ROOT / PAGE).read_text() == render(BUGS), "python -m tests.planted --write"


@pytest.mark.parametrize("promise", [f"{letter}{number}" for letter in "LP" for number in range(1, 7)])
def test_each_promise_has_a_test_of_its_name(promise: str) -> None:
    named = re.compile(rf"def test_(?:[LP]\d_)*{promise}_")
    assert any(named.search(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py"))
