"""When a machine that ended is started again. Pure. Called by `agent.actors` for every unwanted end.

The wait doubles from 100 ms to 30 s with jitter. RESTARTS_MAX failures in WINDOW_S are a crash loop: then every wait is
the longest one and the reason says so. A machine that was ready for STABLE_S begins anew. What a retry can hardly mend
(a digest that does not match, an image that is not there) is tried again each SLOW_RETRY_S.
"""

from __future__ import annotations

from dataclasses import replace

from agent.core.model import Exit, InstanceRecord, move
from kit.backoff import Backoff, Chance

RESTARTS_MAX = 5
WINDOW_S = 300.0
STABLE_S = 60.0
SLOW_RETRY_S = 300.0
BACKOFF = Backoff(first_s=0.1, cap_s=30.0, jitter=0.25)

assert BACKOFF.cap_s < STABLE_S, "a crash loop must not pass for a stable machine"
assert BACKOFF.cap_s <= SLOW_RETRY_S


def wants_restart(record: InstanceRecord, cause: Exit) -> bool:
    """By the workload's policy. What failed before the process could run is not the process's doing: it is retried."""
    match record.planned.workload.restart:
        case "always":
            return True
        case "on-failure":
            return cause.exit_code != 0
        case "never":
            return not record.started_once


def after_exit(record: InstanceRecord, cause: Exit, now_s: float, rng: Chance) -> InstanceRecord:
    """The record after an end that nobody asked for."""
    ended = replace(record, last_exit=cause, started_at_s=None, ready_since_s=None)
    if not wants_restart(record, cause):
        wanted_end = cause.exit_code == 0
        return replace(move(ended, "ended" if wanted_end else "failed"), retry_at_s=None)
    stable = record.ready_since_s is not None and now_s - record.ready_since_s >= STABLE_S
    failures = 1 if stable else record.failures + 1
    recent = tuple(at for at in record.failure_times_s if now_s - at < WINDOW_S) if not stable else ()
    times = (*recent, now_s)[-RESTARTS_MAX - 1 :]
    looping = len(times) > RESTARTS_MAX
    delay_s = _delay_s(cause, failures, looping, rng)
    if looping and not cause.permanent:
        cause = _crash_loop(cause, delay_s)
    return replace(
        move(ended, "failed"),
        last_exit=cause,
        failures=failures,
        failure_times_s=times,
        retry_at_s=now_s + delay_s,
    )


def _delay_s(cause: Exit, failures: int, looping: bool, rng: Chance) -> float:
    if cause.permanent:
        return SLOW_RETRY_S
    return BACKOFF.delay_s(64 if looping else failures, rng)


def _crash_loop(cause: Exit, delay_s: float) -> Exit:
    detail = (
        f"more than {RESTARTS_MAX} failures in {WINDOW_S:.0f} s, the last one {cause.reason_code}: {cause.detail}; "
        f"next try in {delay_s:.0f} s"
    )
    return replace(cause, reason_code="crash_loop_backoff", detail=detail)
