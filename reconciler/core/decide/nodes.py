"""Nodes: enrolment, active and offline, and what an operator lets one do. Called by `reconciler.handlers`.

An agent enrols at each of its starts; only what changed is recorded. A node's guest subnet is claimed, so that no two
nodes give out the same addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from kit.canonical import digest
from kit.codec import to_json
from kit.errors import Refusal
from kit.wire import Enrolment
from reconciler.core.acts import Order, SetDuty, cause_of
from reconciler.core.commands import Append, Claim
from reconciler.core.events import Cause, NewEvent
from reconciler.core.lifecycles import NODE, NODE_DUTY, allowed

Doc = Mapping[str, Any]
_PREFIX_MAX = 112
"""Smaller subnets than 65,536 addresses would make guests share addresses too soon after one another."""


def decide_enrolment(row: Doc | None, enrolment: Enrolment, cause: Cause) -> Append | Refusal | None:
    """node.enrolled if anything changed, and node.state_changed if the node was offline: it speaks, so it is there."""
    complaint = _complaint(enrolment)
    if complaint:
        return Refusal(
            f"enrol node {enrolment.node_id}", complaint, fix="correct the agent's settings", code="enrolment_invalid"
        )
    payload = to_json(enrolment)
    changed = row is None or any(row.get(name) != value for name, value in payload.items())
    events = [NewEvent("node", enrolment.node_id, "node.enrolled", payload)] if changed else []
    if row is not None and row["state"] == "offline":
        events.append(_state_changed(enrolment.node_id, "active", "the agent enrolled"))
    if not events:
        return None
    before = row["subnet"] if row else enrolment.subnet
    moved = before != enrolment.subnet
    return Append(
        command_id=f"enrol-{digest([payload, _seq(row)], length=32)}",
        body_hash=digest(payload),
        cause=cause,
        events=tuple(events),
        expected={("node", enrolment.node_id): _seq(row)},
        take=(Claim("subnet", enrolment.subnet, enrolment.node_id),),
        free=(Claim("subnet", before, enrolment.node_id),) if moved else (),
    )


def decide_node_state(row: Doc | None, node_id: str, state: str, reason: str, cause: Cause) -> Append | Refusal | None:
    if row is None:
        return Refusal(f"set node {node_id} {state}", "no such node is enrolled", code="node_unknown")
    if row["state"] == state:
        return None
    if not allowed(NODE, row["state"], state):
        return Refusal(f"set node {node_id} {state}", f"it is {row['state']}", code="transition_invalid")
    event = _state_changed(node_id, state, reason)
    return Append(
        command_id=f"node-state-{digest([node_id, state, _seq(row)], length=32)}",
        body_hash=digest([node_id, state]),
        cause=cause,
        events=(event,),
        expected={("node", node_id): _seq(row)},
    )


def decide_duty(row: Doc | None, act: SetDuty, order: Order) -> Append | Refusal:
    """node.duty_changed; said anew too, with another reason or end."""
    attempted = f"make node {act.node_id} {act.duty}"
    if row is None:
        return Refusal(attempted, "no such node is enrolled", fix="`trueup status` lists them", code="node_unknown")
    duty = row.get("duty") or "active"
    if not allowed(NODE_DUTY, duty, act.duty):
        return Refusal(attempted, f"it is {duty}", code="transition_invalid")
    if order.until and act.duty != "draining":
        return Refusal(attempted, "only a drain has an end of its own", fix="leave it out", code="invalid_argument")
    payload = {"node_id": act.node_id, "duty": act.duty, "reason": order.reason, "until": order.until}
    return Append(
        command_id=order.command_id,
        body_hash=order.body_hash,
        cause=cause_of(order),
        events=(NewEvent("node", act.node_id, "node.duty_changed", payload),),
        expected={("node", act.node_id): _seq(row)},
    )


def _complaint(enrolment: Enrolment) -> str:
    try:
        subnet = ipaddress.IPv6Network(enrolment.subnet)
    except ValueError as error:
        return f"subnet {enrolment.subnet!r} is not an IPv6 network: {error}"
    if subnet.prefixlen > _PREFIX_MAX:
        return f"subnet {subnet} has fewer than 65,536 addresses"
    if enrolment.memory_bytes <= 0:
        return "it has no memory for guests"
    return ""


def _state_changed(node_id: str, state: str, reason: str) -> NewEvent:
    return NewEvent("node", node_id, "node.state_changed", {"node_id": node_id, "state": state, "reason": reason})


def _seq(row: Doc | None) -> int:
    return int(row["aggregate_seq"]) if row else 0
