"""One bug that can be planted."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bug:
    """`promise`: L1 to P6, or what else. `what`: the bug in words. `test`: FILE::NAME. `environ`: for its run."""

    promise: str
    what: str
    path: str
    old: str
    new: str
    test: str
    environ: dict[str, str] = field(default_factory=dict)
