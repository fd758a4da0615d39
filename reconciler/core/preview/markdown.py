"""A plan as a comment on a pull request. Pure; called by `reconciler.planning` and `trueup plan --output markdown`.

Everything that comes from a repository is hostile here: names, paths, subjects, values. It only ever stands inside a
code span or a fenced block whose fence is longer than any run of backticks in it; in a block every line begins with a
sign of ours, so that no forge takes one for a command; in a table no `|` is left. So it cannot mention anybody, link,
load an image, close a fold or an issue. The comment is bounded: sections that do not fit are counted, not cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from kit.plain_text import clean
from reconciler.core.findings import Finding
from reconciler.core.preview import wording
from reconciler.core.preview.document import PlanDocument, RenderedPlan, RollOut

COMMENT_CHARS_MAX = 60_000
"""GitHub takes 65,536 characters, the others more."""
LINES_MAX = 400
"""Of one section."""
LINE_CHARS_MAX = 400
SUMMARY_CHARS_MAX = 140
"""What GitHub takes as the description of a status."""
MARK = "<!-- trueup plan -->"
"""By which the comment is found again."""


def rendered(plan: PlanDocument, *, named: bool = True) -> RenderedPlan:
    return RenderedPlan(markdown(plan, named=named), plan.ok, one_line(plan))


def one_line(plan: PlanDocument) -> str:
    return _cut(clean(wording.verdict(plan)), SUMMARY_CHARS_MAX)


def markdown(plan: PlanDocument, *, named: bool = True) -> str:
    """Without `named`, no commit and no event is named and there is no mark: for a comment that is written anew only
    when what it says has changed."""
    mark = f"{MARK}\n" if named else ""
    parts = [f"{mark}### trueup plan: {_title(plan)}", *_head(plan, named)]
    size = sum(len(part) + 2 for part in parts)
    left_out = []
    for title, lines in _sections(plan):
        part = _section(title, lines)
        if size + len(part) + 2 > COMMENT_CHARS_MAX - 1000:
            left_out.append(title)
            continue
        parts.append(part)
        size += len(part) + 2
    if left_out:
        parts.append(f"Not shown, because a comment has a limit: {', '.join(left_out)}. `trueup plan` shows all.")
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """As a code span that nothing in it can end."""
    shown = _cut(clean(text), LINE_CHARS_MAX) or " "
    fence = "`" * (_longest_run(shown) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def cell(text: str) -> str:
    """A code span inside a table."""
    return code(text.replace("|", "\\x7c"))


def block(lines: Sequence[str]) -> str:
    """Each line begins with a sign or a blank of ours."""
    shown = [_cut(clean(line), LINE_CHARS_MAX) for line in lines[:LINES_MAX]]
    if len(lines) > LINES_MAX:
        shown.append(f"  and {len(lines) - LINES_MAX} more lines")
    fence = "`" * max(3, max(map(_longest_run, shown), default=0) + 1)
    return "\n".join([f"{fence}text", *shown, fence])


def _title(plan: PlanDocument) -> str:
    return "can be applied" if plan.ok else "would be applied in part" if plan.held else "would be refused"


def _held(plan: PlanDocument) -> Iterator[str]:
    for each in plan.held:
        yield f"! {wording.held_line(each)}"
        yield from (f"    {line}" for line in _findings(each.findings))


def _head(plan: PlanDocument, named: bool) -> Iterator[str]:
    if named:
        base = code(plan.base[:12]) if plan.base else "nothing"
        yield f"{code(plan.commit[:12])} {code(plan.subject)}, from {base}; {wording.basis_text(plan)}."
    yield f"**{'Effect' if plan.applies else 'Refused'}:** {code(wording.verdict(plan))}"
    if rows := list(_summary_rows(plan)):
        yield "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    if plan.confirmations:
        intro = "To confirm what is held back, end the message of a commit (it may be empty) with:"
        yield f"{intro}\n\n{block(['  ' + each.line for each in plan.confirmations])}"


def _summary_rows(plan: PlanDocument) -> Iterator[tuple[str, str]]:
    mine = [each for each in plan.roll_outs if each.by_commit]
    if plan.changes:
        yield "changes", str(len(plan.changes))
    for each in mine[:20]:
        yield cell(f"{each.app} {each.process}"), cell(wording.roll_out_text(each))
    if len(mine) > 20:
        yield "and", f"{len(mine) - 20} more processes"
    if plan.findings:
        bad = sum(finding.severity == "error" for finding in plan.findings)
        yield "findings", f"{bad} errors, {len(plan.findings) - bad} warnings"


def _sections(plan: PlanDocument) -> Iterator[tuple[str, list[str]]]:
    """Title and lines, what matters most first."""
    sections = (
        ("findings", _findings(plan.findings)),
        ("held back", _held(plan)),
        ("changes", _changes(plan)),
        ("roll-outs", _roll_outs(each for each in plan.roll_outs if each.by_commit)),
        ("routes", (f"{wording.SIGNS[each.verb]} {wording.route_text(each)}" for each in plan.routes)),
        ("nodes", (f"  {wording.node_text(each)}" for each in plan.nodes)),
        ("environments", (f"  {wording.environment_text(each)}" for each in plan.environments)),
        ("moving anyway", _roll_outs(each for each in plan.roll_outs if not each.by_commit)),
        ("what this plan does not know", (f"  {note}" for note in plan.notes)),
    )
    for title, lines in sections:
        if told := list(lines):
            yield title, told


def _section(title: str, lines: list[str]) -> str:
    shown = " open" if title in ("findings", "held back") else ""
    return f"<details{shown}><summary>{title}</summary>\n\n{block(lines)}\n\n</details>"


def _findings(findings: Iterable[Finding]) -> Iterator[str]:
    for each in findings:
        sign = "!" if each.severity == "error" else "?"
        yield f"{sign} {each.place}: {each.severity}: {each.message} [{each.code}]"
        if each.fix:
            yield f"      {each.fix}"


def _changes(plan: PlanDocument) -> Iterator[str]:
    for change in plan.changes:
        yield f"{wording.SIGNS[change.verb]} {change.verb:<6} {change.resource}  {wording.change_text(change)}"
        for field in change.fields:
            yield f"      {wording.field_text(field)}"


def _roll_outs(rolled: Iterable[RollOut]) -> Iterator[str]:
    for each in rolled:
        yield f"~ {each.app} {each.process}: {wording.roll_out_text(each)}"
        for step in each.steps:
            yield f"    step {step.step:>2}  {wording.step_text(step)}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 24]}... ({len(text)} characters)"[:limit]


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
