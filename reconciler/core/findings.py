"""What is wrong with a tree, said so that a tired person can mend it at once.

Made by `reconciler.core.yaml_reader`, `manifest`, `cross_checks`, `guards` and `reconciler.git`; recorded in
revision.refused and revision.applied (warnings), printed by `trueup plan` and `trueup validate`. A finding never holds
a value of a Secret manifest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]

FINDINGS_MAX = 200
"""More than anybody reads, and few enough for one event."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One problem at one place, in the order in which people read: by path, then line, then column.

    `line` and `column` count from 1; 0 where a finding is about a whole file or a whole tree. `pointer` is a JSON
    pointer inside the document. `fix` is what to write instead. `code` is a stable word for machines.
    """

    path: str
    line: int
    column: int
    pointer: str
    code: str
    message: str
    fix: str = ""
    severity: Severity = "error"

    @property
    def place(self) -> str:
        """PATH:LINE:COLUMN with the parts that are known."""
        return ":".join([self.path or "(tree)", *(str(part) for part in (self.line, self.column) if part)])


def errors(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "error"]


def ordered(findings: Iterable[Finding], *, limit: int = FINDINGS_MAX) -> tuple[Finding, ...]:
    """Sorted, without repetitions, bounded: errors outlive warnings when there are too many, and the last one says
    how many are not shown."""
    unique = sorted(set(findings))
    if len(unique) <= limit:
        return tuple(unique)
    kept = sorted(unique, key=lambda finding: finding.severity != "error")[: limit - 1]
    hidden = len(unique) - len(kept)
    severity: Severity = "error" if len(errors(unique)) > len(errors(kept)) else "warning"
    message = f"{hidden} more findings are not shown"
    more = Finding("", 0, 0, "", "too_many_findings", message, "mend these first", severity)
    return (*sorted(kept), more)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like `word`, or "" when none is near."""
    scored = sorted((_distance(word.lower(), each.lower()), each) for each in known)
    if scored and scored[0][0] <= max(1, len(word) // 3):
        return scored[0][1]
    return ""


def _distance(left: str, right: str) -> int:
    """Edits between two words, a swap of neighbours counting one. Words are cut at 64 characters."""
    left, right = left[:64], right[:64]
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        current = [i]
        for j, b in enumerate(right, start=1):
            best = min(row[j] + 1, current[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                best = min(best, before[j - 2] + 1)
            current.append(best)
        before, row = row, current
    return row[-1]
