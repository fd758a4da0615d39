"""docs/PLANTED-BUGS.md, from the list."""

from __future__ import annotations

from collections.abc import Iterable

from tests.planted.bugs import Bug

PAGE = "docs/PLANTED-BUGS.md"

_HEAD = """\
# Planted bugs

A promise is worth what its test is worth. For each there is at least one change of a single line that breaks it, and
the test that then fails. `make planted` makes each change in a copy of the tree and runs that test: a bug that is not
caught is an error. Written by `python -m tests.planted --write` from `tests/planted/bugs/`.

The promises: L1 durable, L2 dense and in the order of commit, L3 one effect per command, L4 all of a command or none at
the expected version, L5 tamper-evident, L6 no secret anywhere; P1 a rebuild equals what grew, P2 rows and checkpoint
together, P3 read your writes, P4 never back in time, P5 old events for ever, P6 a rebuild stops no reader. Their tests
carry the name: `pytest -k L3`. place: a secret opens where it belongs, and nowhere else. reports, request ids, stops,
attacks, redaction: `docs/LIMITS.md`.

| promise | bug | where | the line | becomes | the test that fails |
|---|---|---|---|---|---|
"""


def render(bugs: Iterable[Bug]) -> str:
    return _HEAD + "".join(_row(bug) for bug in bugs)


def _row(bug: Bug) -> str:
    file, _, name = bug.test.partition("::")
    cells = [bug.promise, bug.what, f"`{bug.path}`", _code(bug.old), _code(bug.new), f"`{file}`: `{name}`"]
    return f"| {' | '.join(cells)} |\n"


def _code(text: str) -> str:
    shown = " ".join(text.split()).replace("|", "\\|")
    return f"`{shown}`" if shown else "nothing"
