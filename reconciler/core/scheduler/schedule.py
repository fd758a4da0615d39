"""One pass over everything. Called by `reconciler.tasks.scheduler`; `record` turns the result into events.

`schedule` is level-triggered: it looks at what is, never at what happened, so it may be called at any time and again.
The same snapshot, times and ids give the same actions; when everything is as it should be there are none. An app that
cannot be read is left exactly as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reconciler.core.claims import as_claims, of_instance
from reconciler.core.scheduler.actions import (
    Actions,
    Allocate,
    DeploymentStatus,
    Drain,
    PlaceVolume,
    Schedulability,
)
from reconciler.core.scheduler.deployments import app_matches, current_status, superseded
from reconciler.core.scheduler.groups import ByGroup, Group, Unknown, by_group, group_of
from reconciler.core.scheduler.limits import ACTIONS_MAX
from reconciler.core.scheduler.placement import NoPlace, Place, Placement
from reconciler.core.scheduler.rollout import Steps, stateful_steps, stateless_steps
from reconciler.core.scheduler.snapshot import App, Instance, Origin, Snapshot
from reconciler.core.scheduler.times import Times
from reconciler.core.scheduler.verdict import next_deadline_s

NewInstanceId = Callable[[], str]


def schedule(snapshot: Snapshot, times: Times, new_instance_id: NewInstanceId, now_s: float) -> Actions:
    """`times` as `Times.observe` left them for this very snapshot."""
    run = _Pass(snapshot, times, new_instance_id, now_s)
    run.remove_leftovers()
    for app in snapshot.apps.values():
        run.app(app)
    run.deployments.extend(superseded(snapshot, times, now_s))
    return run.result()


class _Pass:
    def __init__(self, snapshot: Snapshot, times: Times, new_instance_id: NewInstanceId, now_s: float) -> None:
        self._snapshot, self._times, self._now_s = snapshot, times, now_s
        self._new_instance_id = new_instance_id
        self._placement = Placement(snapshot)
        self._instances = by_group(snapshot)
        self._running = _running(self._instances)
        self._allocate: list[Allocate] = []
        self._drain: list[Drain] = []
        self._stop: list[Drain] = []
        self._place_volume: list[PlaceVolume] = []
        self._unschedulable: list[Schedulability] = []
        self._schedulable: list[Schedulability] = []
        self._wakes: list[float] = []
        self._matching: set[str] = set()
        self._more = False
        self.deployments: list[DeploymentStatus] = []

    def result(self) -> Actions:
        return Actions(
            allocate=tuple(self._allocate),
            drain=tuple(self._drain),
            stop=tuple(self._stop),
            place_volume=tuple(self._place_volume),
            deployments=tuple(self.deployments[:ACTIONS_MAX]),
            unschedulable=tuple(self._unschedulable[:ACTIONS_MAX]),
            schedulable=tuple(self._schedulable[:ACTIONS_MAX]),
            wake_at_s=min(self._wakes, default=None),
            more=self._more
            or max(len(self.deployments), len(self._unschedulable), len(self._schedulable)) > ACTIONS_MAX,
            matching=frozenset(self._matching),
            times=self._times,
        )

    def remove_leftovers(self) -> None:
        """Instances whose app, or whose process in it, is not declared any more."""
        for (app_id, process), instances in self._instances.items():
            app = self._snapshot.apps.get(app_id)
            app_gone = app_id not in self._snapshot.apps_known
            process_gone = app is not None and not app.suspended and process not in app.release.processes
            if app_gone or process_gone:
                reason = "the app is not declared any more" if app_gone else "the app has no such process any more"
                origin = app.deployment.origin if app else None
                for instance in instances:
                    if instance.desired == "running":
                        self._drain_one(instance, reason, origin)

    def app(self, app: App) -> None:
        groups = [self._group(app, process) for process in sorted(app.release.processes)]
        for group in groups:
            self._schedule_group(group)
        if app.suspended:
            return
        for process in sorted(set(app.unschedulable) - set(app.release.processes)):
            self._schedulable.append(Schedulability(app.app_id, process, "", "", app.origin))
        matches = app_matches(groups, self._leftovers(app))
        if matches:
            self._matching.add(app.app_id)
        self.deployments.extend(current_status(app, groups, matches, self._times, self._now_s))

    def _group(self, app: App, process: str) -> Group | Unknown:
        instances = self._instances.get((app.app_id, process), ())
        group = group_of(self._snapshot, app, process, instances, self._times, self._now_s)
        if isinstance(group, Group):
            deployment_id = group.app.deployment.deployment_id
            self._times = self._times.with_broken(deployment_id, process, group.broken, self._now_s)
            deadlines = [next_deadline_s(each, group.settled, self._times, self._now_s) for each in group.current]
            self._wakes.extend(at_s for at_s in deadlines if at_s is not None)
        return group

    def _leftovers(self, app: App) -> bool:
        return any(process not in app.release.processes for process in self._running.get(app.app_id, ()))

    def _schedule_group(self, group: Group | Unknown) -> None:
        if self._full():
            return
        if isinstance(group, Unknown):
            missing = ", ".join(group.missing.secrets)
            why = NoPlace("secrets_missing", f"these secrets are not declared: {missing}") if group.replicas else None
            self._say(group, why)
            return
        if group.stateful:
            self._say(group, self._stateful(group))
        else:
            self._say(group, self._stateless(group))

    def _stateless(self, group: Group) -> NoPlace | None:
        broken = self._times.broken.get((group.app.deployment.deployment_id, group.process))
        quota = self._placement.quota.room(group)
        blocked = self._placement.could_move(group) if group.displaced else None
        steps = stateless_steps(group, broken, self._now_s, movable=blocked is None, quota=quota)
        self._drain_steps(group, steps)
        placed, why = self._allocate_steps(group, steps.allocate)
        for instance in _given_up(group, placed):
            self._stop_one(instance, f"node {instance.node_id} is offline", "node_offline", group.app.deployment.origin)
        return why or blocked

    def _stateful(self, group: Group) -> NoPlace | None:
        stranded = [
            each
            for each in (*group.lost, *group.given_up, *group.leaving)
            if self._snapshot.offline(each.node_id) and each.live
        ]
        blocked = self._placement.could_place(group, group.outdated) if group.replicas and group.outdated else None
        steps = stateful_steps(group, replaceable=blocked is None)
        self._drain_steps(group, steps)
        _, why = self._allocate_steps(group, steps.allocate)
        if stranded and group.replicas:
            return NoPlace(
                "volume_home_node_offline", f"node {stranded[0].node_id}, the home of its volume, is offline"
            )
        return why or blocked

    def _drain_steps(self, group: Group, steps: Steps) -> None:
        for instance, reason in steps.drain:
            code = "node_draining" if instance.instance_id in group.displaced else ""
            self._drain_one(instance, reason, group.app.deployment.origin, code)
        if steps.wake_at_s is not None:
            self._wakes.append(steps.wake_at_s)

    def _allocate_steps(self, group: Group, count: int) -> tuple[int, NoPlace | None]:
        for placed in range(count):
            if self._full():
                return placed, None
            place = self._placement.place(group, giving_way=_given_up(group, placed + 1))
            if isinstance(place, NoPlace):
                return placed, place
            self._allocate_one(group, place)
        return count, None

    def _allocate_one(self, group: Group, place: Place) -> None:
        for volume_id in place.new_homes:
            origin = self._snapshot.volume_origins[volume_id]
            self._place_volume.append(PlaceVolume(volume_id, place.node_id, origin))
        deployment = group.app.deployment
        self._allocate.append(
            Allocate(
                instance_id=self._new_instance_id(),
                node_id=place.node_id,
                address=place.address,
                app=group.app.app_id,
                process=group.process,
                deployment_id=deployment.deployment_id,
                target=group.target,
                overhead_bytes=place.overhead_bytes,
                origin=deployment.origin,
            )
        )

    def _drain_one(self, instance: Instance, reason: str, origin: Origin | None, reason_code: str = "") -> None:
        if not instance.live:
            self._stop_one(instance, reason, reason_code, origin)
        elif not self._full():
            self._drain.append(_drain(instance, "draining", reason, reason_code, origin))

    def _stop_one(self, instance: Instance, reason: str, reason_code: str, origin: Origin | None) -> None:
        if not self._full():
            self._stop.append(_drain(instance, "stopped", reason, reason_code, origin))

    def _say(self, group: Group | Unknown, why: NoPlace | None) -> None:
        """Once per change of the reason. An app that is gone from Git, and is there only because it is suspended, has
        no place where it could be said."""
        before = group.app.unschedulable.get(group.process, "")
        reason, message = (why.reason, why.message) if why else ("", "")
        if reason == before or not group.app.declared:
            return
        said = Schedulability(group.app.app_id, group.process, reason, message, group.app.origin)
        (self._unschedulable if reason else self._schedulable).append(said)

    def _full(self) -> bool:
        """The pass has as many actions as one append may hold."""
        count = len(self._allocate) + len(self._drain) + len(self._stop) + len(self._place_volume)
        self._more = self._more or count >= ACTIONS_MAX
        return count >= ACTIONS_MAX


def _running(groups: ByGroup) -> Mapping[str, Sequence[str]]:
    """App -> its processes that have an instance which is to run, declared or not."""
    found: dict[str, list[str]] = {}
    for (app_id, process), instances in groups.items():
        if any(instance.desired == "running" for instance in instances):
            found.setdefault(app_id, []).append(process)
    return found


def _given_up(group: Group, placed: int) -> list[Instance]:
    """A lost instance is given up when another takes its place. While none can be placed it stays wanted: the node may
    only be cut off from here, and its instances serve on."""
    present = len(group.ready) + len(group.starting) + len(group.failed) + len(group.done) + placed
    lost = sorted(group.lost, key=lambda each: each.instance_id)
    return [] if group.stateful else lost[: max(0, present + len(lost) - group.replicas)]


def _drain(instance: Instance, desired: str, reason: str, reason_code: str, origin: Origin | None) -> Drain:
    held = of_instance(instance.allocated)
    given_back = {key: owner for key, owner in held.items() if not instance.live or key[0] == "use"}
    return Drain(
        instance_id=instance.instance_id,
        node_id=instance.node_id,
        app=instance.app,
        desired=desired,
        drain_grace_s=instance.drain_grace_s,
        reason=reason,
        reason_code=reason_code,
        origin=origin or instance.origin,
        seq=instance.seq,
        free=as_claims(given_back) if desired == "stopped" else (),
    )
