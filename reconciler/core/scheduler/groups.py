"""The instances of one (app, process), in named buckets. Made by `schedule`, read by `rollout` and `deployments`.

Every instance that has a row is in exactly one bucket:

lost       its node is offline and it was to run
given_up   its node is offline, and it shall not run any more: another took its place
leaving    draining, or told to stop
outdated   to run, but of another spec_hash than the present target, or on a node that it shall leave (`displaced`)
ready, starting, failed    to run, of the present target: ready; on its way; crashed and waiting for its agent
broken     to run, of the present target, and it will not get ready by itself (see `verdict`)
done       to run, of the present target, and it ran to its end as its restart policy allows

Of a suspended app nothing is outdated by its specification and nothing is surplus; whatever is missing becomes like
what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.core.scheduler.snapshot import App, Instance, Snapshot
from reconciler.core.scheduler.target import Missing, Target, like, target_of
from reconciler.core.scheduler.times import Times
from reconciler.core.scheduler.verdict import why_broken

Bucket = tuple[Instance, ...]
ByGroup = Mapping[tuple[str, str], Bucket]


@dataclass(frozen=True, slots=True)
class Group:
    app: App
    process: str
    replicas: int
    target: Target
    lost: Bucket = ()
    given_up: Bucket = ()
    leaving: Bucket = ()
    outdated: Bucket = ()
    ready: Bucket = ()
    starting: Bucket = ()
    failed: Bucket = ()
    broken: Bucket = ()
    done: Bucket = ()
    why_broken: str = ""
    displaced: Mapping[str, str] = field(default_factory=dict)
    """instance id -> why it has to leave its node."""

    @property
    def stateful(self) -> bool:
        return bool(self.target.workload.mounts)

    @property
    def settled(self) -> bool:
        return _settled(self.app)

    @property
    def current(self) -> Bucket:
        return (*self.ready, *self.starting, *self.failed, *self.broken, *self.done)

    @property
    def live(self) -> Bucket:
        """Everything that is, or may be, on a node that is there."""
        everything = (*self.current, *self.outdated, *self.leaving)
        return tuple(instance for instance in everything if instance.live)

    @property
    def outdated_ready(self) -> Bucket:
        return tuple(instance for instance in self.outdated if instance.status == "ready")

    @property
    def serving(self) -> int:
        return len(self.ready) + len(self.outdated_ready)

    @property
    def matches(self) -> bool:
        """As many as wanted, all of the present target and ready, and none that is outdated is wanted."""
        present = len(self.ready) + len(self.done)
        return present == self.replicas == len(self.current) and not self.outdated and not self.lost


@dataclass(frozen=True, slots=True)
class Unknown:
    """A group without a target. Its instances are left as they are."""

    app: App
    process: str
    replicas: int
    missing: Missing


def by_group(snapshot: Snapshot) -> ByGroup:
    found: dict[tuple[str, str], list[Instance]] = {}
    for instance in snapshot.instances:
        found.setdefault((instance.app, instance.process), []).append(instance)
    return {key: tuple(instances) for key, instances in found.items()}


def group_of(
    snapshot: Snapshot, app: App, process: str, instances: Iterable[Instance], times: Times, now_s: float
) -> Group | Unknown:
    instances = tuple(instances)
    replicas = app.replicas.get(process, 0)
    app, target = _wanted(snapshot, app, process, instances)
    if isinstance(target, Missing):
        return Unknown(app, process, replicas, target)
    buckets: dict[str, list[Instance]] = {}
    displaced: dict[str, str] = {}
    reasons = []
    for instance in instances:
        leaves = "" if target.workload.mounts or not instance.live else snapshot.off_duty(instance.node_id)
        bucket, why = _bucket(snapshot, app, instance, target, bool(leaves), times, now_s)
        buckets.setdefault(bucket, []).append(instance)
        if leaves and bucket == "outdated":
            displaced[instance.instance_id] = leaves
        if why:
            reasons.append(f"{process}: instance {instance.instance_id} on {instance.node_id}: {why}")
    wanted = min(replicas, 1) if target.workload.mounts else replicas
    group = Group(
        app,
        process,
        wanted,
        target,
        why_broken="; ".join(reasons[:1]),
        displaced=displaced,
        **{name: tuple(members) for name, members in buckets.items()},
    )
    return replace(group, replicas=max(wanted, len(group.current))) if app.suspended else group


def _wanted(snapshot: Snapshot, app: App, process: str, instances: Sequence[Instance]) -> tuple[App, Target | Missing]:
    """Of a suspended app: like the best that is there, and of its deployment."""
    if not app.suspended or not instances:
        return app, target_of(snapshot, app, process)
    model = min(instances, key=lambda each: (each.desired != "running", _LIKED.index(each.status), each.instance_id))
    deployment = snapshot.deployments.get(model.deployment_id, app.deployment)
    return replace(app, deployment=deployment), like(model, app.release.processes[process])


def _settled(app: App) -> bool:
    return app.suspended or app.deployment.status == "succeeded"


_LIKED = ("ready", "unready", "booting", "preparing", "", "failed", "draining", "stopped")


def _bucket(
    snapshot: Snapshot, app: App, instance: Instance, target: Target, leaves: bool, times: Times, now_s: float
) -> tuple[str, str]:
    if instance.desired != "running":
        away = instance.desired == "stopped" and snapshot.offline(instance.node_id) and instance.live
        return "given_up" if away else "leaving", ""
    if snapshot.offline(instance.node_id) and instance.live:
        return "lost", ""
    if leaves or (instance.spec_hash != target.spec_hash and not app.suspended):
        return "outdated", ""
    if instance.status == "stopped" and instance.workload.restart != "always":
        return "done", ""
    why = why_broken(instance, _settled(app), times, now_s)
    if why and (not app.suspended or not instance.live):
        return "broken", why
    return {"ready": "ready", "failed": "failed"}.get(instance.status, "starting"), ""
