"""From single probes to ready or unready. Pure. Called by `agent.observe` after every probe.

    starting --successes in a row--> ready --failures in a row--> unready --successes in a row--> ready
       |                                                             ^
       +------------- failures in a row, after the grace ------------+

Failures within `grace_s` of the process's start do not count; successes always do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kit.wire import Health

State = Literal["starting", "ready", "unready"]


@dataclass(frozen=True, slots=True)
class HealthState:
    """`since_s`: when the process started. `successes` and `failures` are in a row; one of them is 0."""

    since_s: float
    state: State = "starting"
    successes: int = 0
    failures: int = 0
    detail: str = ""


def after_probe(state: HealthState, check: Health, now_s: float, *, good: bool, detail: str = "") -> HealthState:
    if good:
        successes = min(state.successes + 1, check.successes)
        turned: State = "ready" if successes >= check.successes else state.state
        return replace(state, state=turned, successes=successes, failures=0, detail="")
    if state.state == "starting" and now_s - state.since_s < check.grace_s:
        return replace(state, successes=0, failures=0, detail=detail)
    failures = min(state.failures + 1, check.failures)
    turned = "unready" if failures >= check.failures else state.state
    return replace(state, state=turned, successes=0, failures=failures, detail=detail)
