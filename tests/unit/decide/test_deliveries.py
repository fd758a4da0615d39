"""Who is given secrets: nobody who is lost, in whichever way; and what is given is told, bounded, before it leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kit.errors import Refusal
from reconciler.core.commands import Append
from reconciler.core.decide.deliveries import WINDOW_S, Delivery, Parties, decide_delivery
from reconciler.core.event_schemas import EventSchemas
from reconciler.core.replay import replay
from reconciler.store.event_schema_files import load_event_schemas
from tests.unit.projections.samples import APP, SECRET, WORKLOAD, as_log

NODE = {"node_id": "node-a", "state": "active", "reason": "", "seal_recipient": "age1xyz", "aggregate_seq": 3}
IDENTITY = {"identity_id": "node/node-a", "state": "joined", "reason": "", "aggregate_seq": 2}
INSTANCE = {
    "instance_id": "i-1",
    "node_id": "node-a",
    "desired": "running",
    "app": APP,
    "workload": WORKLOAD,
    "secrets": [{"resource_id": SECRET, "version_id": "v-1", "blob": "b" * 40}],
    "created_event_id": 12,
    "aggregate_seq": 5,
}
PARTIES = Parties(NODE, IDENTITY, INSTANCE)
DELIVERY = Delivery("node-a", "i-1", "age1xyz", "hpke-v1")
NOW_S = 1_000 * WINDOW_S + 10.0


def given(parties: Parties = PARTIES, delivery: Delivery = DELIVERY, now_s: float = NOW_S) -> Append:
    decided = decide_delivery(parties, delivery, now_s)
    assert isinstance(decided, Append), decided
    return decided


def test_what_is_given_is_told_of_each_secret() -> None:
    other = SECRET.replace("keys", "tls")
    secrets = [*INSTANCE["secrets"], {"resource_id": other, "version_id": "v-7", "blob": "c" * 40}]  # type: ignore[misc]  # a list
    append = given(replace(PARTIES, instance={**INSTANCE, "secrets": secrets}))
    schemas = EventSchemas(load_event_schemas())
    for event in append.events:
        schemas.check(event)
    assert [(each.aggregate_id, each.payload["version_id"]) for each in append.events] == [
        (SECRET, "v-1"),
        (other, "v-7"),
    ]
    assert (append.cause.actor_id, append.cause.org_id, append.cause.causation_id) == ("node:node-a", "acme", 12)
    assert "b" * 40 not in str(append), "not even where the ciphertext is"
    rows = replay(as_log(append.events))["deliveries"]
    assert set(rows) == {f"{SECRET}@node-a", f"{other}@node-a"}
    assert rows[f"{SECRET}@node-a"]["versions"][-1]["instance_id"] == "i-1"


def test_it_is_decided_on_the_node_and_the_identity_that_were_read() -> None:
    """So that one that is lost a moment later, at another controller, is a conflict and not a delivery."""
    assert given().expected == {("node", "node-a"): 3, ("identity", "node/node-a"): 2}
    assert given(replace(PARTIES, identity=None)).expected[("identity", "node/node-a")] == 0


def test_the_same_is_told_once_an_hour_and_what_differs_at_once() -> None:
    command = given().command_id
    assert given(now_s=NOW_S + WINDOW_S - 20).command_id == command
    assert given(replace(PARTIES, instance={**INSTANCE, "aggregate_seq": 9})).command_id == command, "its reports"
    newer = {**INSTANCE, "secrets": [{**INSTANCE["secrets"][0], "version_id": "v-2"}]}  # type: ignore[index]  # a list
    others = [
        given(now_s=NOW_S + WINDOW_S),
        given(replace(PARTIES, instance=newer)),
        given(replace(PARTIES, node={**NODE, "seal_recipient": "age1new"}), replace(DELIVERY, recipient="age1new")),
        given(replace(PARTIES, node={**NODE, "aggregate_seq": 5})),
        given(replace(PARTIES, identity={**IDENTITY, "aggregate_seq": 3})),
        given(delivery=replace(DELIVERY, instance_id="i-2")),
    ]
    assert len({command, *(each.command_id for each in others)}) == 7


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"node": None}, "node_unknown"),
        ({"node": {**NODE, "state": "offline"}}, "node_offline"),
        ({"node": {**NODE, "duty": "disabled"}}, "node_disabled"),
        ({"identity": {**IDENTITY, "state": "revoked", "reason": "stolen"}}, "node_revoked"),
        ({"node": {**NODE, "seal_recipient": "age1other"}}, "conflict"),
        ({"instance": None}, "not_found"),
        ({"instance": {**INSTANCE, "node_id": "node-b"}}, "not_found"),
        ({"instance": {**INSTANCE, "desired": "stopped"}}, "not_found"),
        ({"instance": {**INSTANCE, "workload": {**WORKLOAD, "secret": None}}}, "secret_not_found"),
    ],
)
def test_whoever_is_lost_gets_nothing(change: dict[str, Any], code: str) -> None:
    """Although its certificate may be good, and the instance is wanted."""
    refused = decide_delivery(replace(PARTIES, **change), DELIVERY, NOW_S)
    assert isinstance(refused, Refusal)
    assert refused.code == code


@pytest.mark.parametrize("change", [{"duty": "draining"}, {"duty": "active"}])
def test_what_stays_on_a_draining_node_may_start_again(change: dict[str, str]) -> None:
    assert given(replace(PARTIES, node={**NODE, **change}))
    assert given(replace(PARTIES, instance={**INSTANCE, "desired": "draining"}))
