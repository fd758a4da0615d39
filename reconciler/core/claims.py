"""Which claims the log gives rise to. Pure: docs/DATA.md, "Claims follow from events", as code.

Folded by `reconciler.store.claims` over the whole log, to rebuild the table `claims` or to verify it; the deciders ask
`of_resource` and `of_instance` for what their commands take and free. A key is freed only by the one who holds it, so
the order of the events inside one command does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from reconciler.core import quotas
from reconciler.core.commands import Claim
from reconciler.core.copies import OVER, WORKS
from reconciler.core.events import Event
from reconciler.core.model import KINDS
from reconciler.core.projection import Doc

ClaimKey = tuple[str, str]
"""(kind, key)"""

CLAIM_KINDS = frozenset({"resource", "hostname", "subnet", "address", "volume_writer", "use", "quota", *WORKS})
"""What follows from events. "fence" does not: it may be lost."""

AGGREGATE_TYPES = frozenset({*KINDS, "node", "instance", "quota", *WORKS})


class Held(NamedTuple):
    owner: str
    event_id: int


class Claims:
    """Every claim after the events so far."""

    def __init__(self) -> None:
        self._held: dict[ClaimKey, Held] = {}
        self._of: dict[tuple[str, str], dict[ClaimKey, str]] = {}  # what each aggregate holds, with the owner's name
        self._instances: dict[str, tuple[str, str, int]] = {}  # (desired, status, epoch) of each that is not over

    @property
    def held(self) -> dict[ClaimKey, Held]:
        """With the sums of what is counted (`reconciler.core.quotas`)."""
        limits = {key: held.owner for (kind, key), held in self._held.items() if kind == "limits"}
        counted = quotas.rows_of((held.owner for (kind, _), held in self._held.items() if kind == "use"), limits)
        last = max((held.event_id for held in self._held.values()), default=0)
        owned = {key: held for key, held in self._held.items() if key[0] != "limits"}
        return {**owned, **{("quota", scope): Held(text, last) for scope, text in counted.items()}}

    def apply(self, event: Event) -> None:
        kind, _, what = event.event_type.partition(".")
        aggregate = (event.aggregate_type, event.aggregate_id)
        if kind == "instance":
            self._instance(event, what)
        elif kind == "node" and what == "enrolled":
            self._hold(aggregate, {("subnet", event.payload["subnet"]): event.aggregate_id}, event.event_id)
        elif kind == "quota":
            self._hold(aggregate, of_limits(event.aggregate_id, event.payload["limits"]), event.event_id)
        elif kind in WORKS:
            self._work(event, what)
        elif kind in KINDS and what == "deleted":
            self._hold(aggregate, {}, event.event_id)
        elif kind in KINDS and what == "moved" and aggregate in self._of:
            wanted = {**self._of[aggregate], ("resource", event.aggregate_id): event.cause.source_id}
            self._hold(aggregate, wanted, event.event_id)
        elif kind in KINDS and what in ("created", "updated"):
            owner = self._of.get(aggregate, {}).get(("resource", event.aggregate_id), event.cause.source_id)
            owner = owner if what == "updated" else event.cause.source_id
            self._hold(aggregate, of_resource(kind, event.aggregate_id, event.payload["spec"], owner), event.event_id)

    def _work(self, event: Event, what: str) -> None:
        work, aggregate = WORKS[event.aggregate_type], (event.aggregate_type, event.aggregate_id)
        if what == "created":
            self._hold(aggregate, work.claims(event.payload), event.event_id)
        elif event.payload["status"] in OVER:
            self._hold(aggregate, {}, event.event_id)

    def _instance(self, event: Event, what: str) -> None:
        name, told = event.aggregate_id, event.payload
        if what == "allocated":
            self._instances[name] = ("running", "", told["epoch"])
            self._hold(("instance", name), of_instance(told), event.event_id)
            return
        if name not in self._instances:
            return  # over
        desired, status, epoch = self._instances[name]
        if what == "desired_state_changed":
            desired = told["desired"]
        elif what == "status_changed" and told["epoch"] >= epoch:
            status = told["status"]
        self._instances[name] = (desired, status, epoch)
        if status == "stopped" and desired != "running":
            del self._instances[name]
            self._hold(("instance", name), {}, event.event_id)
        elif what == "desired_state_changed" and desired == "stopped":
            held = self._of.get(("instance", name), {})
            self._hold(("instance", name), {k: v for k, v in held.items() if k[0] != "use"}, event.event_id)

    def _hold(self, aggregate: tuple[str, str], wanted: dict[ClaimKey, str], event_id: int) -> None:
        before = self._of.pop(aggregate, {})
        for key, owner in before.items():
            if key not in wanted and self._held.get(key, Held("", 0)).owner == owner:
                del self._held[key]
        for key, owner in wanted.items():
            if before.get(key) != owner:
                self._held[key] = Held(owner, event_id)
        if wanted:
            self._of[aggregate] = wanted


def of_resource(kind: str, resource_id: str, spec: Doc, source_id: str) -> dict[ClaimKey, str]:
    """What a declared resource holds."""
    held = {("resource", resource_id): source_id}
    scope, used = quotas.scope_of(resource_id), quotas.used_by_resource(kind, spec)
    if kind == "environment":
        held |= of_limits(scope, spec.get("quota") or {})
    if kind == "route":
        held |= dict.fromkeys(_listeners(spec), resource_id)
    if used:
        held["use", resource_id] = quotas.use_text(scope, used)
    return held


def of_limits(scope: str, limits: Mapping[str, int]) -> dict[ClaimKey, str]:
    return {("limits", scope): quotas.written(limits)} if limits else {}


def of_instance(allocated: Doc) -> dict[ClaimKey, str]:
    """What an instance holds until it is over; its use only until it shall be stopped. `allocated`: the payload of
    instance.allocated, or a row made of it."""
    instance_id = str(allocated["instance_id"])
    used = quotas.use_text(quotas.scope_of(allocated["app"]), quotas.used_by_instance(quotas.taken_bytes(allocated)))
    return {**dict.fromkeys(_of_workload(allocated["workload"]), instance_id), ("use", instance_id): used}


def as_claims(held: Mapping[ClaimKey, str]) -> tuple[Claim, ...]:
    """In an order that does not depend on chance."""
    return tuple(Claim(kind, key, held[kind, key]) for kind, key in sorted(held))


def _listeners(spec: Doc) -> Iterator[ClaimKey]:
    yield "hostname", f"{spec['hostname']}:{spec['listen_port']}"
    if spec["protocol"] == "tcp_raw":
        yield "hostname", f"*:{spec['listen_port']}"


def _of_workload(workload: Doc) -> Iterator[ClaimKey]:
    yield "address", workload["address"]
    for mount in workload["mounts"]:
        if not mount["read_only"]:
            yield "volume_writer", mount["volume_id"]
