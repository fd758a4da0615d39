"""Which claims the log gives rise to. Pure: docs/DATA.md, "Claims follow from events", as code.

Folded by `reconciler.store.claims` over the whole log, to rebuild the table `claims` or to verify it. A key is freed
only by the one who holds it, so the order of the events inside one command does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.core.events import Event
from reconciler.core.model import KINDS
from reconciler.core.projection import Doc

ClaimKey = tuple[str, str]
"""(kind, key)"""

CLAIM_KINDS = frozenset({"resource", "hostname", "subnet", "address", "volume_writer"})
"""What follows from events. "fence" does not: it may be lost."""

AGGREGATE_TYPES = frozenset({*KINDS, "node", "instance"})


class Held(NamedTuple):
    owner: str
    event_id: int


class Claims:
    """`held`: every claim after the events so far."""

    def __init__(self) -> None:
        self.held: dict[ClaimKey, Held] = {}
        self._of: dict[tuple[str, str], dict[ClaimKey, str]] = {}  # what each aggregate holds, with the owner's name
        self._instances: dict[str, tuple[str, str, int]] = {}  # (desired, status, epoch) of each that is not over

    def apply(self, event: Event) -> None:
        kind, _, what = event.event_type.partition(".")
        aggregate = (event.aggregate_type, event.aggregate_id)
        if kind == "instance":
            self._instance(event, what)
        elif kind == "node" and what == "enrolled":
            self._hold(aggregate, {("subnet", event.payload["subnet"]): event.aggregate_id}, event.event_id)
        elif kind in KINDS and what == "deleted":
            self._hold(aggregate, {}, event.event_id)
        elif kind in KINDS and what in ("created", "updated"):
            owner = self._of.get(aggregate, {}).get(("resource", event.aggregate_id), event.cause.source_id)
            wanted = {("resource", event.aggregate_id): owner if what == "updated" else event.cause.source_id}
            if kind == "route":
                wanted.update(dict.fromkeys(_listeners(event.payload["spec"]), event.aggregate_id))
            self._hold(aggregate, wanted, event.event_id)

    def _instance(self, event: Event, what: str) -> None:
        name, told = event.aggregate_id, event.payload
        if what == "allocated":
            self._instances[name] = ("running", "", told["epoch"])
            self._hold(("instance", name), dict.fromkeys(_of_workload(told["workload"]), name), event.event_id)
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

    def _hold(self, aggregate: tuple[str, str], wanted: dict[ClaimKey, str], event_id: int) -> None:
        before = self._of.pop(aggregate, {})
        for key, owner in before.items():
            if key not in wanted and self.held.get(key, Held("", 0)).owner == owner:
                del self.held[key]
        for key, owner in wanted.items():
            if before.get(key) != owner:
                self.held[key] = Held(owner, event_id)
        if wanted:
            self._of[aggregate] = wanted


def _listeners(spec: Doc) -> Iterator[ClaimKey]:
    yield "hostname", f"{spec['hostname']}:{spec['listen_port']}"
    if spec["protocol"] == "tcp_raw":
        yield "hostname", f"*:{spec['listen_port']}"


def _of_workload(workload: Doc) -> Iterator[ClaimKey]:
    yield "address", workload["address"]
    for mount in workload["mounts"]:
        if not mount["read_only"]:
            yield "volume_writer", mount["volume_id"]
