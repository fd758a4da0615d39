"""Deltas of plans: laid over what was held they give the whole, and whatever is wrong with one shows in the digest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.canonical import digest
from kit.errors import Transient
from kit.plan_delta import items_of, whole
from reconciler.server.sent_plans import SentPlans

PLANS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3)).map(
    lambda found: {
        "log_id": "log-1",
        "generation": 7,
        "instances": [{"instance_id": name, "epoch": epoch} for name, epoch in sorted(found.items())],
        "volumes": [],
    }
)
Plan = dict[str, Any]


@given(st.lists(PLANS, min_size=1, max_size=6), st.data())
def test_the_reader_holds_what_the_controller_means_after_each_answer(plans: list[Plan], data: st.DataObject) -> None:
    sent, held = SentPlans(), None
    for plan in plans:
        if data.draw(st.booleans(), label="another controller answers"):
            sent = SentPlans()
        held = whole(held, sent.answer("node:a", plan, held["digest"] if held else ""))
        assert {**plan, "digest": held["digest"]} == held


@given(PLANS, PLANS, st.sampled_from(["forget a change", "forget a removal", "change a value", "other base"]))
def test_a_wrong_delta_never_passes(before: Plan, after: Plan, wrong: str) -> None:
    sent = SentPlans()
    held = whole(None, sent.answer("node:a", before, ""))
    change = dict(sent.answer("node:a", after, held["digest"]))
    assert change["base"] == held["digest"]
    match wrong:
        case "forget a change":
            spoilt = {**change, "changed": {}}
        case "forget a removal":
            spoilt = {**change, "removed": {}}
        case "change a value":
            changed = change["changed"].get("instances", [])
            spoilt = {**change, "changed": {"instances": [{**item, "epoch": 9} for item in changed]} if changed else {}}
        case _:
            held = {**held, "instances": [*held["instances"], {"instance_id": "z", "epoch": 1}]}
            spoilt = change
    if spoilt == change and wrong != "other base":
        assert whole(held, spoilt)["instances"] == after["instances"]
        return
    with pytest.raises(Transient) as drift:
        whole(held, spoilt)
    assert drift.value.code == "plan_drift"


def test_a_delta_holds_only_what_changed() -> None:
    items = [{"instance_id": f"i-{number}", "epoch": 1} for number in range(100)]
    plan = {"log_id": "log-1", "generation": 1, "instances": items, "volumes": []}
    sent = SentPlans()
    first = sent.answer("node:a", plan, "")
    later = {**plan, "generation": 2, "instances": [*items[:50], {"instance_id": "i-50", "epoch": 2}, *items[51:99]]}
    change = sent.answer("node:a", later, first["digest"])
    assert change == {
        "log_id": "log-1",
        "generation": 2,
        "base": first["digest"],
        "digest": digest(items_of(later)),
        "changed": {"instances": [{"instance_id": "i-50", "epoch": 2}]},
        "removed": {"instances": ["i-99"]},
    }


def test_who_was_not_heard_for_longest_is_forgotten_and_gets_the_whole() -> None:
    plan = {"log_id": "log-1", "generation": 1, "instances": [{"instance_id": "i"}] * 1, "volumes": []}
    sent = SentPlans(items_max=6)
    digests = {name: sent.answer(name, plan, "")["digest"] for name in ("a", "b", "c", "d")}
    assert "base" in sent.answer("d", plan, digests["d"])
    assert "base" not in sent.answer("a", plan, digests["a"])
