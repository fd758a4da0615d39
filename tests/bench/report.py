"""The table in docs/PERFORMANCE.md, from the benchmarks' figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_HEAD = """# Performance

Written by `make bench`; every figure can be printed again by the command beside it. Ratios are measured side by side in
one run; absolute figures belong to this machine.

- Machine: {machine}
- Commit: {commit}

| benchmark | command | figures |
|---|---|---|
"""


def render(results: Sequence[dict[str, Any]], machine: str, commit: str) -> str:
    rows = [
        f"| {result['title']} | `python -m tests.bench {result['name']}` | {_figures(result['figures'])} |"
        for result in results
    ]
    return _HEAD.format(machine=machine, commit=commit) + "\n".join(rows) + "\n"


def _figures(figures: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in sorted(figures.items()))


def _short(value: Any) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else str(round(value) if isinstance(value, float) else value)
    )
