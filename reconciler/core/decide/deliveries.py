"""Who may have the secret file of an instance, and that he was given it. Called by `reconciler.handlers.deliveries`.

A node that is silent, disabled or revoked is given nothing, whatever else is right: its certificate, and an instance
that is still wanted on it. What is given is told by an event of each secret before the file leaves, decided on the
versions of the node and of its identity that were read: if the node is lost in between, it is decided anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kit.canonical import digest
from kit.errors import Refusal
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.model import ResourceId

Doc = Mapping[str, Any]
WINDOW_S = 3600
"""The same file for the same key of a node is told once in that time, however often it is fetched."""


@dataclass(frozen=True, slots=True)
class Parties:
    """The rows of those whom a delivery is about, of one moment; None for one that is not there."""

    node: Doc | None
    identity: Doc | None
    instance: Doc | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """`recipient`: the key of the node that the file is sealed to. `form`: of `kit.sealed_file`."""

    node_id: str
    instance_id: str
    recipient: str
    form: str


def delivery_refused(parties: Parties, node_id: str, instance_id: str) -> Refusal | None:
    """Why the node does not get the instance's secrets now."""
    attempted = f"give node {node_id} the secrets of instance {instance_id[:80]}"
    node, identity, instance = parties.node, parties.identity or {}, parties.instance
    if node is None:
        return Refusal(attempted, "it is not enrolled", fix="the agent enrols at its start", code="node_unknown")
    if identity.get("state") == "revoked":
        why, fix = f"it is revoked: {identity['reason']}", f"`trueup node token {node_id}` lets it join again"
        return Refusal(attempted, why, fix=fix, code="node_revoked")
    if node["state"] != "active":
        fix = "it is active again as soon as it is heard; the agent asks again by itself"
        return Refusal(attempted, f"it is {node['state']}: {node['reason']}", fix=fix, code="node_offline")
    if node.get("duty") == "disabled":
        why, fix = f"it is disabled: {node.get('duty_reason', '')}", f"`trueup node activate {node_id}` ends that"
        return Refusal(attempted, why, fix=fix, code="node_disabled")
    if instance is None or instance["node_id"] != node_id or instance["desired"] == "stopped":
        return Refusal(attempted, "the node has no such instance", code="not_found")
    if not instance["workload"].get("secret"):
        return Refusal(attempted, "the instance uses no secret", code="secret_not_found")
    return None


def decide_delivery(parties: Parties, delivery: Delivery, now_s: float) -> Append | Refusal:
    """delivery.made, one for each secret of the file."""
    refused = delivery_refused(parties, delivery.node_id, delivery.instance_id)
    node, instance = parties.node, parties.instance
    if refused is not None or node is None or instance is None:
        return refused or Refusal("give out secrets", "nobody is there to have them", code="not_found")
    if node["seal_recipient"] != delivery.recipient:
        attempted = f"give node {delivery.node_id} the secrets of instance {delivery.instance_id}"
        return Refusal(attempted, "it enrolled another key meanwhile", fix="the agent asks again", code="conflict")
    identity_id = f"node/{delivery.node_id}"
    expected = {("node", delivery.node_id): _seq(node), ("identity", identity_id): _seq(parties.identity)}
    events = tuple(
        NewEvent("delivery", each["resource_id"], "delivery.made", _payload(each, instance, identity_id, delivery))
        for each in instance["secrets"]
    )
    told = [dict(each.payload) for each in events]
    return Append(
        command_id=f"delivery-{digest([told, *expected.values(), int(now_s) // WINDOW_S], length=32)}",
        body_hash=digest(told),
        cause=_cause(instance, delivery.node_id),
        events=events,
        expected=expected,
    )


def _payload(secret: Doc, instance: Doc, identity_id: str, delivery: Delivery) -> dict[str, Any]:
    return {
        "resource_id": secret["resource_id"],
        "version_id": secret["version_id"],
        "identity_id": identity_id,
        "instance_id": delivery.instance_id,
        "app": instance["app"],
        "recipient": delivery.recipient,
        "form": delivery.form,
    }


def _cause(instance: Doc, node_id: str) -> Cause:
    """The node asked, for an instance that was placed on it."""
    org_id, placed = ResourceId.parse(instance["app"]).org, int(instance.get("created_event_id") or 0)
    return Cause("service_principal", f"node:{node_id}", org_id, causation_id=placed)


def _seq(row: Doc | None) -> int:
    return int(row["aggregate_seq"]) if row else 0
