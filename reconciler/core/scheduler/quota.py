"""What the quotas leave room for. Part of `placement`, which asks before it looks for a node; grows as it places.

The append transaction counts exactly (`reconciler.core.quotas`); this is the same sum over the snapshot, so that what
cannot be is not tried, and is said. Which node an instance gets is not known yet here: its machine is taken to cost
what it costs on the dearest node that takes more, so that nothing is tried that the transaction refuses. Quota and
capacity are never mixed: the reason here names the level and dimension.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.core.quotas import Amounts, level_of, scope_of, scopes_above, used_by_instance
from reconciler.core.scheduler.groups import Group
from reconciler.core.scheduler.snapshot import Instance, Snapshot

PLENTY = 1 << 30
"""Where nothing is limited."""


@dataclass(frozen=True, slots=True)
class Room:
    """`count`: how many more of a group fit now. `swaps`: one fits once what leaves, or is broken, and one old one more
    are gone."""

    count: int = PLENTY
    swaps: bool = False


@dataclass(frozen=True, slots=True)
class Shortage:
    reason: str
    message: str


class QuotaRoom:
    def __init__(self, snapshot: Snapshot) -> None:
        self._limits = snapshot.limits
        self._overhead_bytes = max(
            (each.overhead_bytes for each in snapshot.nodes.values() if each.takes_more), default=0
        )
        self._used: dict[str, Counter[str]] = {scope: Counter() for scope in snapshot.limits}
        for instance in snapshot.instances if self._limits else ():
            if counts(instance):
                self._add(scope_of(instance.app), used_by_instance(instance.taken_bytes))
        for scope, used in snapshot.used_beside.items():
            self._add(scope, used)

    def room(self, group: Group) -> Room:
        if not self._limited(group):
            return Room()
        memory = self._needs_bytes(group)
        left = [
            (limits[name] - self._used[scope][name]) // each
            for scope in self._limited(group)
            for limits in (self._limits[scope],)
            for name, each in (("instances", 1), ("memory_bytes", memory))
            if name in limits
        ]
        return Room(max(0, min(left, default=PLENTY)), self.shortage(group, self.going(group)) is None)

    def going(self, group: Group) -> tuple[Instance, ...]:
        """What leaves or is broken, and one that is outdated, the one that gives least room."""
        least = sorted(group.outdated, key=lambda each: each.taken_bytes)[:1]
        return (*group.leaving, *group.broken, *least)

    def shortage(self, group: Group, going: Iterable[Instance] = ()) -> Shortage | None:
        """Why one more of the group is too much once `going` are gone; None when it is not."""
        gone = [each for each in going if counts(each)]
        freed = {"instances": len(gone), "memory_bytes": sum(each.taken_bytes for each in gone)}
        needs = {"instances": 1, "memory_bytes": self._needs_bytes(group)}
        for scope in self._limited(group):
            for name, limit in sorted(self._limits[scope].items()):
                if name in needs and self._used[scope][name] - freed[name] + needs[name] > limit:
                    return _shortage(scope, name, limit, self._used[scope][name], needs[name])
        return None

    def take(self, group: Group, overhead_bytes: int) -> None:
        used = used_by_instance(group.target.workload.memory_bytes + overhead_bytes)
        self._add(scope_of(group.app.app_id), used)

    def _needs_bytes(self, group: Group) -> int:
        return group.target.workload.memory_bytes + self._overhead_bytes

    def _limited(self, group: Group) -> list[str]:
        return [scope for scope in scopes_above(scope_of(group.app.app_id)) if scope in self._limits]

    def _add(self, below: str, used: Amounts) -> None:
        for scope in scopes_above(below):
            if scope in self._used:
                self._used[scope].update(used)


def counts(instance: Instance) -> bool:
    """Until it shall be stopped: see `reconciler.core.claims`."""
    return instance.desired != "stopped"


def _shortage(scope: str, name: str, limit: int, used: int, needs: int) -> Shortage:
    unit, size = (" MiB", 1 << 20) if name == "memory_bytes" else ("", 1)
    message = (
        f"the quota of {scope} allows {name} {limit // size}{unit}; "
        f"{used // size}{unit} are used and one more takes {needs // size}{unit}"
    )
    return Shortage(f"{level_of(scope)}_quota_exceeded:{name}", message)
