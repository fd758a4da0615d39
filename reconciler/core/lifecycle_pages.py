"""The lifecycles for people: Mermaid diagrams, rows of a table, a document. Pure, except that the rules, which are the
comments above each table in `reconciler.core.lifecycles`, are read from that module's own source.

Called by `trueup lifecycles`, which makes docs/LIFECYCLES.md.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

from reconciler.core import lifecycles
from reconciler.core.lifecycles import LIFECYCLES, Lifecycle, Transitions

_HEAD = """\
# Lifecycles

Made by `trueup lifecycles --format mermaid` from `reconciler/core/lifecycles.py`; a test holds both together. A command
that asks for a transition which is not here is refused. `[*]` is before the first word about it; a state that leads to
`[*]` is final.
"""


def rules() -> dict[str, str]:
    """NAME OF THE TABLE -> the comment above it."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in inspect.getsource(lifecycles).splitlines():
        if line.startswith("# "):
            comment.append(line[2:])
        elif match := re.match(r"([A-Z_]+): Transitions", line):
            found[match[1]], comment = " ".join(comment), []
    return found


def rule_of(lifecycle: Lifecycle) -> str:
    told = rules()
    name = next(name for name in told if getattr(lifecycles, name) is lifecycle.table)
    return told[name] or told["SNAPSHOT"]


def document(lifecycle: Lifecycle) -> dict[str, Any]:
    moves = {before: sorted(after) for before, after in lifecycle.table.items()}
    return {"name": lifecycle.name, "told_by": lifecycle.told_by, "rules": rule_of(lifecycle), "moves": moves}


def rows(lifecycle: Lifecycle) -> list[tuple[str, str]]:
    """from, to; in the order of the table."""
    order = list(lifecycle.table)
    return [
        (before or "(new)", ", ".join(sorted(after, key=order.index)) or "(final)")
        for before, after in lifecycle.table.items()
    ]


def mermaid(table: Transitions) -> Iterator[str]:
    """The lines of one diagram, in the order of the table."""
    order = list(table)
    yield "stateDiagram-v2"
    for before, after in table.items():
        for state in sorted(after, key=order.index):
            yield f"    {before or '[*]'} --> {state}"
        if not after:
            yield f"    {before} --> [*]"


def mermaid_page(chosen: Iterable[Lifecycle] = LIFECYCLES) -> str:
    parts = [_HEAD]
    for each in chosen:
        diagram = "\n".join(mermaid(each.table))
        parts.append(f"## {each.name}\n\nTold by: {each.told_by}. {rule_of(each)}\n\n```mermaid\n{diagram}\n```\n")
    return "\n".join(parts)
