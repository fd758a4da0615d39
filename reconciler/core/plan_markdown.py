"""A judged commit as Markdown for a pull request. Pure.

Called by `reconciler.pull_plan`. Paths, names and messages come from the pull request, so all of them stand in code
blocks, where a forge neither links, mentions nor renders anything; a fence is longer than any run of backticks inside.
No value of a manifest is shown, only what changes and what is wrong, so that nothing secret can be in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from reconciler.core.findings import Finding, errors
from reconciler.core.planner import Plan
from reconciler.core.pulls import RenderedPlan
from reconciler.core.revisions import Change, ChangeVerb

CHANGES_MAX = 1000
"""More than anybody reads in a comment; the heading has the count of all."""
_SIGNS = {"create": "+", "update": "!", "move": " ", "delete": "-", "retain": "!"}
"""What the highlighting of a diff makes of the line: green, orange, plain, red."""
_DONE: Mapping[ChangeVerb, str] = {
    "create": "to create",
    "update": "to update",
    "move": "to move",
    "delete": "to delete",
    "retain": "to retain",
}


def render_plan(planned: Plan | None, findings: Sequence[Finding]) -> RenderedPlan:
    """`planned` is None when the commit cannot even be planned; then `findings` say why."""
    bad = errors(findings)
    changes = planned.changes if planned else ()
    summary = _refused_text(bad) if bad else _counts(changes)
    parts = [f"### trueup plan: {_heading(bad, changes)}"]
    if bad:
        parts.append("Merged as it is, this would be refused and **nothing would change**.")
    if changes:
        parts.append(_block("diff", _change_lines(changes)))
    if findings:
        parts.append("Findings:\n\n" + _block("text", _finding_lines(findings)))
    return RenderedPlan("\n\n".join(parts), not bad, summary)


def render_conflict(paths: Sequence[str], branch: str) -> RenderedPlan:
    """The pull request cannot be merged as it is."""
    shown = _block("text", [clean(path) for path in paths[:50]]) if paths else ""
    why = f"It conflicts with `{branch}`. Merge or rebase it, then there is a plan."
    text = f"### trueup plan: no plan\n\n{why}\n\n{shown}"
    return RenderedPlan(text.rstrip(), False, f"conflicts with {branch}")


def clean(text: str) -> str:
    """One line without control and direction characters, which could hide or reorder what a reviewer sees."""
    return "".join(char if unicodedata.category(char)[0] != "C" else f"\\x{ord(char):02x}" for char in text)


def _heading(bad: Sequence[Finding], changes: Sequence[Change]) -> str:
    return f"refused, {_plural(len(bad), 'error')}" if bad else _counts(changes)


def _counts(changes: Sequence[Change]) -> str:
    counts = Counter(change.verb for change in changes)
    return ", ".join(f"{counts[verb]} {text}" for verb, text in _DONE.items() if counts[verb]) or "no changes"


def _refused_text(bad: Sequence[Finding]) -> str:
    return clean(f"would be refused, {_plural(len(bad), 'error')}; {bad[0].place}: {bad[0].message}")


def _change_lines(changes: Sequence[Change]) -> list[str]:
    shown = changes[:CHANGES_MAX]
    width = max(len(change.resource_id.short) for change in shown)
    lines = [
        f"{_SIGNS[each.verb]} {each.verb:<6} {each.resource_id.short:<{width}}  {each.path}:{each.line}"
        for each in shown
    ]
    hidden = len(changes) - len(shown)
    return [*lines, *([f"  and {hidden} more"] if hidden else [])]


def _finding_lines(findings: Sequence[Finding]) -> list[str]:
    lines = []
    for each in findings:
        lines.append(f"{each.place}: {each.severity}: {each.message} [{each.code}]")
        lines += [f"    {each.fix}"] if each.fix else []
    return lines


def _block(language: str, lines: Sequence[str]) -> str:
    text = "\n".join(clean(line) for line in lines)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")
