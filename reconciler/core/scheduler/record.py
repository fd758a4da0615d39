"""Actions as appends for the log. Called by `reconciler.handlers`.

A command id is the digest of what the action says (less the minted instance id), of the snapshot that it was decided
on, and of the fence: the same pass recorded twice by the same scheduler is one. The first append carries the fence: it
frees the token of the last batch and takes a new one, so that of two schedulers that decided on the same state only one
gets through; the other is told, reads again and decides anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kit.canonical import digest
from kit.codec import to_json
from reconciler.core.claims import as_claims, of_instance
from reconciler.core.commands import Append, Claim
from reconciler.core.events import Cause, NewEvent, newest_version
from reconciler.core.scheduler.actions import (
    Actions,
    Allocate,
    DeploymentStatus,
    Drain,
    PlaceVolume,
    Schedulability,
)
from reconciler.core.scheduler.snapshot import Origin
from reconciler.core.scheduler.target import with_address

ACTOR = "scheduler"

ALLOCATED, DESIRED, PLACED = "instance.allocated", "instance.desired_state_changed", "volume.placed"
Basis = list[int | str]
"""What a decision stands on: the snapshot's event_id and the fence."""


def appends(actions: Actions, event_id: int, fence: str) -> tuple[Append, ...]:
    """`event_id`: of the snapshot. `fence`: the token that this scheduler holds, or if none the one that it will take.
    Empty when there is nothing to do."""
    basis: Basis = [event_id, fence]
    return tuple(_append(action, basis) for action in actions)


def fenced(batch: Sequence[Append], fence_before: str, fence_after: str) -> tuple[Append, ...]:
    """`batch` is not empty."""
    first = batch[0]
    free = (*first.free, Claim("fence", ACTOR, fence_before)) if fence_before else first.free
    take = (Claim("fence", ACTOR, fence_after), *first.take)  # first: a stale picture is told as such
    return (replace(first, free=free, take=take), *batch[1:])


def scheduler_cause(origin: Origin) -> Cause:
    correlation = f"{origin.source_id}@{origin.commit}" if origin.commit else ""
    return Cause(
        actor_type="system",
        actor_id=ACTOR,
        org_id=origin.org,
        source_id=origin.source_id,
        commit=origin.commit,
        path=origin.path,
        line=origin.line,
        correlation_id=correlation,
    )


def _append(action: Allocate | Drain | PlaceVolume | DeploymentStatus | Schedulability, basis: Basis) -> Append:
    match action:
        case Allocate():
            return _allocate(action, basis)
        case Drain():
            return _drain(action, basis)
        case PlaceVolume():
            payload = {"resource_id": action.volume_id, "node_id": action.node_id, "previous_node_id": ""}
            event = NewEvent("volume", action.volume_id, PLACED, payload, newest_version(PLACED))
            return _one(event, action.origin, basis)
        case DeploymentStatus():
            return _deployment(action, basis)
        case Schedulability():
            return _schedulability(action, basis)


def _one(event: NewEvent, origin: Origin, basis: Basis) -> Append:
    body = [event.event_type, event.aggregate_id, dict(event.payload)]
    return Append(
        command_id=f"schedule-{digest([body, basis], length=32)}",
        body_hash=digest(body),
        cause=scheduler_cause(origin),
        events=(event,),
        expected={},
    )


def _allocate(action: Allocate, basis: Basis) -> Append:
    target = action.target
    workload = with_address(target.workload, action.address)
    payload = {
        "instance_id": action.instance_id,
        "node_id": action.node_id,
        "app": action.app,
        "process": action.process,
        "release_id": workload.release_id,
        "deployment_id": action.deployment_id,
        "spec_hash": target.spec_hash,
        "epoch": 1,
        "workload": to_json(workload),
        "overhead_bytes": action.overhead_bytes,
        "drain_grace_s": target.process.update.drain_grace_s,
        "secrets": [
            {"resource_id": secret.secret_id, "version_id": secret.version_id, "blob": secret.blob}
            for secret in target.secrets
        ],
    }
    body = {key: value for key, value in payload.items() if key != "instance_id"}
    return Append(
        command_id=f"allocate-{digest([body, basis], length=32)}",
        body_hash=digest(body),
        cause=scheduler_cause(action.origin),
        events=(NewEvent("instance", action.instance_id, ALLOCATED, payload, newest_version(ALLOCATED)),),
        expected={("instance", action.instance_id): 0},
        take=as_claims(of_instance(payload)),
    )


def _drain(action: Drain, basis: Basis) -> Append:
    names = ("instance_id", "node_id", "app", "desired", "drain_grace_s", "reason", "reason_code")
    payload = {name: getattr(action, name) for name in names}
    event = NewEvent("instance", action.instance_id, DESIRED, payload, newest_version(DESIRED))
    expected = {("instance", action.instance_id): action.seq}
    return replace(_one(event, action.origin, basis), expected=expected, free=action.free)


def _deployment(action: DeploymentStatus, basis: Basis) -> Append:
    names = ("deployment_id", "app", "status", "message", "seconds")
    payload = {name: getattr(action, name) for name in names}
    event = NewEvent("deployment", action.deployment_id, "deployment.status_changed", payload)
    stable = [action.deployment_id, action.status, action.seq]
    return Append(
        command_id=f"deployment-{digest([*stable, basis], length=32)}",
        body_hash=digest(stable),
        cause=scheduler_cause(action.origin),
        events=(event,),
        expected={("deployment", action.deployment_id): action.seq},
    )


def _schedulability(action: Schedulability, basis: Basis) -> Append:
    payload = {"resource_id": action.app, "process": action.process}
    if not action.reason:
        return _one(NewEvent("app", action.app, "app.schedulable", payload), action.origin, basis)
    said = {**payload, "reason": action.reason, "message": action.message}
    version = newest_version("app.unschedulable")
    return _one(NewEvent("app", action.app, "app.unschedulable", said, version), action.origin, basis)
