"""The frame of the benchmarks: each one has a title and a run, and the table shows every figure."""

from __future__ import annotations

import importlib

import pytest

from tests.bench.__main__ import names
from tests.bench.report import render


@pytest.mark.parametrize("name", names())
def test_a_benchmark_has_a_title_and_a_run(name: str) -> None:
    module = importlib.import_module(f"tests.bench.{name}")
    assert module.TITLE
    assert callable(module.run)


def test_the_table_shows_every_figure_with_its_command() -> None:
    figures = {"ratio": 1.23456, "events_per_s": 14702}
    table = render([{"name": "append", "title": "append: events", "figures": figures}], "2 cores", "abc")
    assert "`python -m tests.bench append`" in table
    assert "events_per_s 14702" in table
    assert "ratio 1.235" in table
