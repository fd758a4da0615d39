"""The error of a commit that cannot be read to its end, however often."""

from __future__ import annotations

from kit.errors import Transient
from reconciler.core.findings import Finding


class ReadingEnded(Transient):
    """Raised by `reconciler.git.bounded`; `reconciler.git.judge` refuses a new commit with the finding."""

    def __init__(self, commit: str, finding: Finding) -> None:
        super().__init__(f"read the commit {commit}", finding.message, fix=finding.fix, code=finding.code)
        self.finding = finding
