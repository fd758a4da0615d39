"""No word of anybody's becomes part of a statement: every statement is a constant, and what is put together is put
together from a fixed list of names. A new place where SQL is made has to be written down here, with its reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import reconciler
from kit.errors import Bug
from reconciler.store.views import table_of

ROOT = Path(reconciler.__file__).parents[1]
CALLS = {"fetch", "fetchrow", "fetchval", "execute", "executemany", "prepare", "cursor"}
BUILT = {
    ("event_log.py", "query"): "event_queries.reading makes it of fixed conditions",
    ("event_log.py", "call.statement"): "a constant of append_batch",
    ("migrate.py", "migration.sql"): "a file of reconciler/store/sql",
    ("ownership.py", "statement"): "written by Postgres, which quotes the names itself",
    ("shadow.py", "query"): "an f-string of the same file, looked at below",
    ("view_mirror.py", "query"): "an f-string of the same file",
    ("view_writer.py", "query"): "an f-string of the same file",
    ("views.py", "query"): "an f-string of the same file",
}
"""Statements that are no constants, and why nobody's words are in them."""

PARTS = {
    ("event_queries.py", "COLUMNS"), ("event_queries.py", "conditions"), ("event_queries.py", "query"),
    ("event_queries.py", "len(values)"), ("roles.py", "database"), ("roles.py", "role"), ("shadow.py", "self._table"),
    ("shadow.py", "table"), ("shadow.py", "table_of(self.name)"), ("view_mirror.py", "name"),
    ("view_mirror.py", "number"), ("view_writer.py", "table"), ("views.py", "table_of(view)"), ("views.py", "field"),
}  # fmt: skip
"""What f-strings of SQL hold besides constants: names of tables, columns and roles, and numbers of arguments."""

WORDS = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "DROP ", "CREATE ", "ALTER ", "WHERE ", "GRANT ", "SET ", "FROM ")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "reconciler").rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def is_connection(node: ast.expr) -> bool:
    return "connection" in ast.unparse(node).lower()


def statements() -> Iterator[tuple[str, int, ast.expr]]:
    for name, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            if node.func.attr in CALLS and is_connection(node.func.value):
                yield name, node.lineno, node.args[0]


def test_every_statement_is_a_constant_or_known_to_be_put_together() -> None:
    found, unknown = 0, []
    for name, line, statement in statements():
        found += 1
        constant = isinstance(statement, ast.Constant | ast.JoinedStr) or ast.unparse(statement).isupper()
        if not constant and (Path(name).name, ast.unparse(statement)) not in BUILT:
            unknown.append(f"{name}:{line} {ast.unparse(statement)}")
    assert unknown == []
    assert found > 80


def test_what_is_put_into_a_statement_is_a_name_of_ours() -> None:
    unknown = []
    for name, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.JoinedStr) or not is_sql(node):
                continue
            for part in (each for each in node.values if isinstance(each, ast.FormattedValue)):
                text = ast.unparse(part.value)
                if not is_constant(text) and (Path(name).name, text) not in PARTS:
                    unknown.append(f"{name}:{node.lineno} {text}")
    assert unknown == []


def is_sql(node: ast.JoinedStr) -> bool:
    text = "".join(str(each.value) for each in node.values if isinstance(each, ast.Constant))
    return any(word in text for word in WORDS)


def is_constant(text: str) -> bool:
    """A constant, joined or not, or numbers of arguments."""
    return (
        re.fullmatch(r"[A-Z_]+|', '\.join\([A-Z_]+\)|', '\.join\(\(f'\$\{n\}' for n in range\(\d+, \d+\)\)\)", text)
        is not None
    )


@pytest.mark.parametrize("view", ["nodes; DROP TABLE events", "nodes'--", "events", "../nodes", "NODES", ""])
def test_a_view_that_is_none_never_becomes_the_name_of_a_table(view: str) -> None:
    with pytest.raises(Bug):
        table_of(view)
