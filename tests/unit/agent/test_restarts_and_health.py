"""Restarts by policy and backoff; probes to verdicts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from agent.core.health import HealthState, after_probe
from agent.core.model import Exit, InstanceRecord
from agent.core.restarts import BACKOFF, RESTARTS_MAX, SLOW_RETRY_S, STABLE_S, WINDOW_S, after_exit
from kit.wire import Health
from tests.unit.agent.parts import instance, record

CRASH = Exit("process_exited", "the process exited with code 1", 1)
FINE = Exit("process_exited", "the process exited with code 0", 0)


def running() -> InstanceRecord:
    return record(phase="running", started_once=True)


def fail(have: InstanceRecord, now_s: float, cause: Exit = CRASH) -> InstanceRecord:
    return after_exit(replace(have, phase="running"), cause, now_s, random.Random(1))


def test_the_wait_doubles_up_to_a_cap_with_jitter() -> None:
    have, waits = running(), []
    for now_s in range(0, 50_000, 1000):  # far apart: never a crash loop
        have = fail(have, float(now_s))
        assert have.retry_at_s is not None
        waits.append(have.retry_at_s - now_s)
    for failures, wait_s in enumerate(waits[:9], start=1):
        least = min(BACKOFF.cap_s, 0.1 * 2 ** (failures - 1))
        assert least <= wait_s <= least * 1.25
    assert 30.0 <= waits[-1] <= 37.5


def test_too_many_failures_in_the_window_are_a_crash_loop() -> None:
    have = running()
    for number in range(RESTARTS_MAX):
        have = fail(have, number * 10.0)
        assert have.last_exit == CRASH
    have = fail(have, 60.0)
    assert have.last_exit is not None
    assert have.last_exit.reason_code == "crash_loop_backoff"
    assert "process_exited" in have.last_exit.detail
    assert have.last_exit.exit_code == 1
    assert have.retry_at_s is not None
    assert have.retry_at_s - 60.0 >= BACKOFF.cap_s
    later = fail(have, 60.0 + WINDOW_S + 50)
    assert later.last_exit == CRASH, "old failures leave the window"


def test_a_stable_time_begins_anew() -> None:
    have = running()
    for number in range(RESTARTS_MAX + 1):
        have = fail(have, number * 10.0)
    have = fail(replace(have, ready_since_s=100.0), 100.0 + STABLE_S)
    assert have.failures == 1
    assert have.retry_at_s is not None
    assert have.retry_at_s - (100.0 + STABLE_S) < 0.2


@pytest.mark.parametrize(
    ("policy", "cause", "phase", "tries"),
    [
        ("always", FINE, "failed", True),
        ("always", CRASH, "failed", True),
        ("on-failure", FINE, "ended", False),
        ("on-failure", CRASH, "failed", True),
        ("on-failure", Exit("vm_died", "gone"), "failed", True),
        ("never", FINE, "ended", False),
        ("never", CRASH, "failed", False),
    ],
)
def test_policies(policy: str, cause: Exit, phase: str, tries: bool) -> None:
    have = fail(record(instance(restart=policy), started_once=True), 1.0, cause)
    assert have.phase == phase
    assert (have.retry_at_s is not None) is tries


def test_never_still_retries_what_never_ran() -> None:
    have = after_exit(record(instance(restart="never")), Exit("registry_unreachable", "no"), 1.0, random.Random(1))
    assert have.retry_at_s is not None


def test_what_a_retry_hardly_mends_is_retried_slowly() -> None:
    wrong = Exit("image_digest_mismatch", "no", permanent=True)
    have = after_exit(record(), wrong, 1.0, random.Random(1))
    assert have.retry_at_s == 1.0 + SLOW_RETRY_S
    assert have.last_exit == wrong


CHECK = Health("tcp", 80, grace_s=10.0, successes=2, failures=3)


def probes(state: HealthState, *results: tuple[float, bool]) -> HealthState:
    for now_s, good in results:
        state = after_probe(state, CHECK, now_s, good=good, detail="no")
    return state


def test_ready_after_successes_in_a_row() -> None:
    state = probes(HealthState(0.0), (1, True), (2, False), (3, True))
    assert state.state == "starting"
    assert probes(state, (4, True)).state == "ready"


def test_failures_within_the_grace_do_not_count() -> None:
    state = probes(HealthState(0.0), *((float(second), False) for second in range(10)))
    assert (state.state, state.failures) == ("starting", 0)
    assert probes(state, (10, False), (11, False)).state == "starting"
    assert probes(state, (10, False), (11, False), (12, False)).state == "unready"


def test_unready_after_failures_in_a_row_and_back() -> None:
    ready = HealthState(0.0, "ready")
    assert probes(ready, (1, False), (2, False), (3, True), (4, False)).state == "ready"
    unready = probes(ready, (1, False), (2, False), (3, False))
    assert (unready.state, unready.detail) == ("unready", "no")
    assert probes(unready, (4, True)).state == "unready"
    assert probes(unready, (4, True), (5, True)).state == "ready"
