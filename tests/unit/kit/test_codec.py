"""What is written is read back the same; what does not fit is refused with its place; the unknown is passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.codec import from_json, to_json
from kit.errors import Refusal
from kit.wire import Health, Mount, NodePlan, PlannedInstance, Port, SecretRef, Workload

names = st.text(min_size=1, max_size=12)
workloads = st.builds(
    Workload,
    app=names,
    env=names,
    process=names,
    release_id=names,
    image=names,
    memory_bytes=st.integers(1, 1 << 40),
    cpu=st.floats(0.1, 64),
    disk_bytes=st.integers(1, 1 << 40),
    address=names,
    command=st.lists(names).map(tuple),
    environment=st.dictionaries(names, names, max_size=3),
    ports=st.lists(st.builds(Port, names, st.integers(1, 65535)), max_size=3).map(tuple),
    health=st.none() | st.builds(Health, st.sampled_from(["tcp", "http"]), st.integers(1, 65535)),
    mounts=st.lists(st.builds(Mount, names, names, st.booleans()), max_size=2).map(tuple),
    secret=st.none() | st.builds(SecretRef, names),
)
plans = st.builds(
    NodePlan,
    names,
    names,
    st.integers(0, 1 << 60),
    st.lists(st.builds(PlannedInstance, names, st.integers(1, 9), st.just("running"), st.floats(0, 60), workloads)).map(
        tuple
    ),
)


@given(plans)
def test_a_plan_survives_the_wire(plan: NodePlan) -> None:
    assert from_json(NodePlan, to_json(plan)) == plan


def test_unknown_fields_of_a_newer_writer_are_passed_over() -> None:
    assert from_json(Port, {"name": "web", "port": 80, "colour": "red"}) == Port("web", 80)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"name": "web"}, "'port' is missing"),
        ({"name": "web", "port": "80"}, r"Port\.port: expected int, found str"),
        ({"name": "web", "port": True}, r"Port\.port: expected int, found bool"),
        ([], "expected an object, found list"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(document: object, complaint: str) -> None:
    with pytest.raises(Refusal, match=complaint):
        from_json(Port, document)


def test_a_word_outside_a_closed_list_is_refused() -> None:
    with pytest.raises(Refusal, match="one of tcp, http"):
        from_json(Health, {"kind": "udp", "port": 53})
