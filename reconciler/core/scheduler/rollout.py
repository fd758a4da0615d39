"""What to drain, stop and allocate in one group. Called by `schedule`, which then places what is allocated.

Stateless. New instances come first: at most `replicas + surge` exist at once (draining ones count), and an old one is
drained only while at least `replicas` others are ready. With surge 0 the user chose the gap: one old one goes first.
Old instances that do not serve are drained when they are in the way, or at the end.

Broken new instances are drained as soon as enough others serve; the deployment is then tried again with one instance at
a time, with growing delays (`limits.retry_delay_s`). Where nothing else serves, they stay with their agents until the
next try is due.

Where a quota leaves no room for the surge of an update, an old one is drained first, one at a time, provided that its
successor fits then; otherwise the old ones stay.

Stateful (it mounts a volume). At most one instance exists. The old one is drained when the new one could be placed, and
the new one is allocated when the old one has stopped.

Instances on a node that is off duty count as old ones, whatever their release. With surge 0 one of them goes first only
if there is a place for another (`movable`): a drain must not cost what nobody wanted to give.

Surplus goes in this order: broken, failed, not ready, then the oldest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.core.scheduler.groups import Bucket, Group
from reconciler.core.scheduler.limits import retry_delay_s
from reconciler.core.scheduler.quota import Room
from reconciler.core.scheduler.snapshot import Instance
from reconciler.core.scheduler.times import Broken

_PLENTY = Room()
_NOT_SERVING = ("failed", "", "preparing", "booting", "draining", "stopped", "unready")
_RANK = {status: rank for rank, status in enumerate(_NOT_SERVING)}


@dataclass(frozen=True, slots=True)
class Steps:
    """`drain`: with the reason, in words. `allocate`: how many. `lost_to_replace`: lost instances, oldest first; one is
    stopped for each that is allocated. `wake_at_s`: when a retry is due."""

    drain: tuple[tuple[Instance, str], ...] = ()
    allocate: int = 0
    wake_at_s: float | None = None


def stateless_steps(
    group: Group, broken: Broken | None, now_s: float, movable: bool = True, quota: Room = _PLENTY
) -> Steps:
    """`broken`: what broke in this deployment so far, the present ones included. `quota`: what it leaves room for."""
    due_s = broken.last_s + retry_delay_s(len(broken.instance_ids)) if broken else now_s
    drains = _Drains(group)
    drains.surplus()
    drains.broken(due=due_s <= now_s)
    wanted = _wanted(group, drains, retrying=broken is not None, due=due_s <= now_s)
    surge = group.target.process.update.surge
    limit = group.replicas + max(surge, 0) if group.replicas else 0
    room = limit - len(group.live)
    if (group.outdated or group.leaving or drains.chosen) and (quota.count or quota.swaps):
        room = min(room, quota.count)  # an update goes on with what there is; anything else says what is missing
    drains.in_the_way(wanted - room)
    drains.replaced()
    if surge < 1:
        drains.gap(wanted, movable)
    elif not quota.count and quota.swaps:
        drains.gap(wanted, movable, "; the quota leaves no room for a surge, so it is drained first")
    return Steps(drains.chosen, max(0, min(wanted, room)), due_s if broken and due_s > now_s else None)


def _wanted(group: Group, drains: _Drains, *, retrying: bool, due: bool) -> int:
    """How many current instances are missing and may be tried now."""
    missing = group.replicas - len([each for each in group.current if each not in drains])
    if group.settled or not retrying or missing <= 0:
        return max(missing, 0)
    return 1 if due and not group.starting and not group.failed else 0


class _Drains:
    """Collects drains, each instance once, in the order of the rules."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._found: dict[str, tuple[Instance, str]] = {}

    @property
    def chosen(self) -> tuple[tuple[Instance, str], ...]:
        return tuple(self._found.values())

    def __contains__(self, instance: Instance) -> bool:
        return instance.instance_id in self._found

    def surplus(self) -> None:
        """More of the present target than wanted: scaled down, or a node came back."""
        group = self._group
        extra = len(group.current) - group.replicas
        self._take(_expendable(group.current, group.broken), extra, f"{group.replicas} replicas are wanted")

    def broken(self, *, due: bool) -> None:
        group = self._group
        enough = group.serving - len([each for each in group.ready if each in self]) >= group.replicas
        if due or (enough and not group.settled):
            self._take(group.broken, len(group.broken), "it does not become ready")

    def in_the_way(self, count: int) -> None:
        """Old instances that do not serve make room for new ones."""
        self._replace(_expendable(self._idle_outdated()), count)

    def replaced(self) -> None:
        """Old instances that are not needed any more for `replicas` ready ones."""
        group = self._group
        ready = [each for each in group.ready if each not in self]
        spare = len(ready) + len(group.outdated_ready) - group.replicas
        self._replace(_expendable(group.outdated_ready), spare)
        if len(ready) + len(group.done) >= group.replicas:
            self._replace(_expendable(self._idle_outdated()), len(group.outdated))

    def gap(self, wanted: int, movable: bool, why: str = "") -> None:
        """Without surge one old instance goes first, when everything new so far is ready and nothing is leaving."""
        group = self._group
        moving = group.starting or group.failed or group.broken or any(each.live for each in group.leaving)
        full = len(group.live) >= group.replicas
        if wanted and full and not moving and not self._found:
            going = [each for each in _expendable(group.outdated) if movable or each.instance_id not in group.displaced]
            self._replace(going, 1, why)

    def _idle_outdated(self) -> Bucket:
        return tuple(each for each in self._group.outdated if each.status != "ready")

    def _replace(self, candidates: Iterable[Instance], count: int, why: str = "") -> None:
        by = f"replaced by release {self._group.app.deployment.release_id}"
        fresh = [each for each in candidates if each not in self]
        for instance in fresh[: max(count, 0)]:
            self._take([instance], 1, self._group.displaced.get(instance.instance_id, by) + why)

    def _take(self, candidates: Iterable[Instance], count: int, reason: str) -> None:
        fresh = [each for each in candidates if each not in self]
        for instance in fresh[: max(count, 0)]:
            self._found[instance.instance_id] = (instance, reason)


def _expendable(instances: Bucket, broken: Bucket = ()) -> list[Instance]:
    """The first to go first."""
    worst = {each.instance_id for each in broken}
    return sorted(
        instances,
        key=lambda each: (each.instance_id not in worst, _RANK.get(each.status, len(_RANK)), each.instance_id),
    )


def stateful_steps(group: Group, replaceable: bool) -> Steps:
    """`replaceable`: a new instance could be placed if the old one were gone."""
    running = [*group.outdated, *group.current]
    if group.replicas == 0 or len(group.current) > 1:
        keep = group.replicas
        extra = _expendable(group.current, group.broken)[: len(group.current) - keep]
        return Steps(tuple((each, f"{keep} replicas are wanted") for each in [*extra, *group.outdated]))
    if group.outdated:
        reason = f"replaced by release {group.app.deployment.release_id}"
        going = group.outdated if replaceable or group.current else ()
        return Steps(tuple((each, reason) for each in going))
    present = [*running, *group.lost, *group.given_up, *(each for each in group.leaving if each.live)]
    return Steps(allocate=0 if present else 1)
