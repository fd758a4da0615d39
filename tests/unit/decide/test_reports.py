"""What agents and edges may say, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kit.errors import Refusal
from kit.wire import Enrolment, InstanceReport, RouteReport, VolumeReport
from reconciler.core.commands import Append, Claim
from reconciler.core.decide.edges import decide_route_report
from reconciler.core.decide.instances import Known, decide_report
from reconciler.core.decide.nodes import decide_enrolment, decide_node_state
from reconciler.core.decide.volumes import decide_volume_report
from reconciler.core.events import Cause
from reconciler.core.lifecycles import INSTANCE_STATUS, allowed

CAUSE = Cause("service_principal", "node:node-a", "")
ROW = {
    "instance_id": "i-1",
    "node_id": "node-a",
    "epoch": 2,
    "counter": 5,
    "status": "booting",
    "desired": "draining",
    "aggregate_seq": 4,
    "app": "o/p/e/a/app/a",
    "workload": {
        "memory_bytes": 1 << 26,
        "address": "fd00::10",
        "mounts": [
            {"volume_id": "o/p/e/a/volume/v", "path": "/v", "read_only": False},
            {"volume_id": "o/p/e/a/volume/w", "path": "/w", "read_only": True},
        ],
    },
}
REPORT = InstanceReport("i-1", 2, 6, "ready", "2026-01-01T00:00:00Z")
ENROLMENT = Enrolment("node-a", "fd00:a::/64", 1 << 30, 4.0, 1 << 40, "age1x", "kvm", "1")


def test_a_report_is_one_event_however_often_it_is_sent() -> None:
    first = decide_report(Known.of(ROW), "node-a", REPORT, CAUSE)
    again = decide_report(Known.of(ROW), "node-a", REPORT, CAUSE)
    assert isinstance(first, tuple) and isinstance(again, tuple)
    assert first[0] == again[0]
    assert decide_report(first[1], "node-a", REPORT, CAUSE) is None, "recorded: not even a command"
    assert decide_report(None, "node-a", REPORT, CAUSE) is None, "gone: old news"


@pytest.mark.parametrize(
    ("node", "change", "code"),
    [
        ("node-b", {}, "instance_foreign"),
        ("node-a", {"epoch": 1}, "epoch_stale"),
        ("node-a", {"epoch": 3}, "epoch_stale"),
    ],
)
def test_an_agent_speaks_only_of_its_own_and_of_the_present_epoch(node: str, change: dict[str, int], code: str) -> None:
    decision = decide_report(Known.of(ROW), node, replace(REPORT, **change), CAUSE)  # type: ignore[arg-type]  # ints
    assert isinstance(decision, Refusal)
    assert decision.code == code


def test_stopped_is_final_and_nothing_comes_after_draining_but_the_end() -> None:
    assert not allowed(INSTANCE_STATUS, "stopped", "ready")
    assert not allowed(INSTANCE_STATUS, "draining", "ready")
    for pair in ("booting failed", "failed booting", "ready ready", "draining failed", "failed stopped", " booting"):
        before, after = pair.split(" ")
        assert allowed(INSTANCE_STATUS, before, after), pair


def test_an_instance_that_has_ended_gives_back_what_it_held() -> None:
    decision = decide_report(Known.of(ROW), "node-a", replace(REPORT, status="stopped"), CAUSE)
    assert isinstance(decision, tuple)
    assert decision[0].free == (
        Claim("address", "fd00::10", "i-1"),
        Claim("use", "i-1", "o/p/e instances=1 memory_bytes=67108864"),
        Claim("volume_writer", "o/p/e/a/volume/v", "i-1"),
    )
    kept = decide_report(Known.of({**ROW, "desired": "running"}), "node-a", replace(REPORT, status="stopped"), CAUSE)
    assert isinstance(kept, tuple) and kept[0].free == ()


def test_an_enrolment_is_recorded_when_it_says_something_new() -> None:
    first = decide_enrolment(None, ENROLMENT, CAUSE)
    assert isinstance(first, Append)
    row = {**first.events[0].payload, "state": "active", "aggregate_seq": 1}
    assert decide_enrolment(row, ENROLMENT, CAUSE) is None
    bigger = decide_enrolment(row, replace(ENROLMENT, memory_bytes=2 << 30), CAUSE)
    assert isinstance(bigger, Append) and [e.event_type for e in bigger.events] == ["node.enrolled"]
    back = decide_enrolment({**row, "state": "offline"}, ENROLMENT, CAUSE)
    assert isinstance(back, Append) and [e.event_type for e in back.events] == ["node.state_changed"]
    moved = decide_enrolment(row, replace(ENROLMENT, subnet="fd00:b::/64"), CAUSE)
    assert isinstance(moved, Append)
    assert (moved.free[0].key, moved.take[0].key) == ("fd00:a::/64", "fd00:b::/64")


@pytest.mark.parametrize("subnet", ["10.0.0.0/8", "fd00::1/64", "fd00::/120", "nonsense"])
def test_a_subnet_that_cannot_hold_guests_is_refused(subnet: str) -> None:
    assert isinstance(decide_enrolment(None, replace(ENROLMENT, subnet=subnet), CAUSE), Refusal)


def test_node_states() -> None:
    row = {"state": "active", "aggregate_seq": 1}
    assert decide_node_state(row, "node-a", "active", "", CAUSE) is None
    assert isinstance(decide_node_state(row, "node-a", "offline", "silent", CAUSE), Append)
    assert isinstance(decide_node_state(row, "node-a", "lost", "", CAUSE), Refusal)
    assert isinstance(decide_node_state(None, "node-a", "offline", "", CAUSE), Refusal)


def test_volumes_are_reported_by_their_home_and_only_when_something_changes() -> None:
    told = VolumeReport("o/p/e/a/volume/v", 1, "available", "2026-01-01T00:00:00Z")
    row = {"home_node": "node-a", "status": "", "observed": {}}
    assert isinstance(decide_volume_report(row, None, "node-a", told, CAUSE), Append)
    assert decide_volume_report({**row, "status": "available"}, None, "node-a", told, CAUSE) is None
    assert isinstance(decide_volume_report(row, None, "node-b", told, CAUSE), Refusal)
    assert decide_volume_report(None, None, "node-a", told, CAUSE) is None
    gone = replace(told, status="deleted")
    assert decide_volume_report(row, None, "node-a", gone, CAUSE) is None, "nobody asked for that"
    assert isinstance(decide_volume_report(None, {"node_id": "node-a"}, "node-a", gone, CAUSE), Append)
    other_home = {**row, "home_node": "node-b"}
    assert isinstance(decide_volume_report(other_home, {"node_id": "node-a"}, "node-a", gone, CAUSE), Append)


def test_edges_report_transitions() -> None:
    told = RouteReport("o/p/e/a/route/r", "active", 2)
    row = {"aggregate_seq": 3, "observed": {}}
    append = decide_route_report(row, "edge-1", 9, told, CAUSE)
    assert isinstance(append, Append) and append.expected == {("route", "o/p/e/a/route/r"): 3}
    seen = {"edge-1": {"status": "active", "backends": 2, "reason_detail": ""}}
    assert decide_route_report({**row, "observed": seen}, "edge-1", 10, told, CAUSE) is None
    assert decide_route_report({**row, "observed": seen}, "edge-2", 10, told, CAUSE) is not None
    assert decide_route_report(None, "edge-1", 9, told, CAUSE) is None
