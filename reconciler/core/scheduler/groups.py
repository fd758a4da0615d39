"""The instances of one (app, process), in named buckets. Made by `schedule`, read by `rollout` and `deployments`.

Every instance that has a row is in exactly one bucket:

lost       its node is offline and it was to run
leaving    draining, or told to stop
outdated   to run, but of another spec_hash than the present target
ready, starting, failed    to run, of the present target: ready; on its way; crashed and waiting for its agent
broken     to run, of the present target, and it will not get ready by itself (see `verdict`)
done       to run, of the present target, and it ran to its end as its restart policy allows
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.core.scheduler.snapshot import App, Instance, Snapshot
from reconciler.core.scheduler.target import Missing, Target, target_of
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
    leaving: Bucket = ()
    outdated: Bucket = ()
    ready: Bucket = ()
    starting: Bucket = ()
    failed: Bucket = ()
    broken: Bucket = ()
    done: Bucket = ()
    why_broken: str = ""

    @property
    def stateful(self) -> bool:
        return bool(self.target.process.volumes)

    @property
    def settled(self) -> bool:
        return self.app.deployment.status == "succeeded"

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
    spec = app.spec.processes.get(process)
    replicas = spec.replicas if spec is not None else 0
    target = target_of(snapshot, app, process)
    if isinstance(target, Missing):
        return Unknown(app, process, replicas, target)
    settled = app.deployment.status == "succeeded"
    buckets: dict[str, list[Instance]] = {}
    reasons = []
    for instance in instances:
        bucket, why = _bucket(snapshot, instance, target, settled, times, now_s)
        buckets.setdefault(bucket, []).append(instance)
        if why:
            reasons.append(f"{process}: instance {instance.instance_id} on {instance.node_id}: {why}")
    wanted = min(replicas, 1) if target.process.volumes else replicas
    return Group(
        app,
        process,
        wanted,
        target,
        why_broken="; ".join(reasons[:1]),
        **{name: tuple(members) for name, members in buckets.items()},
    )


def _bucket(
    snapshot: Snapshot, instance: Instance, target: Target, settled: bool, times: Times, now_s: float
) -> tuple[str, str]:
    if instance.desired != "running":
        return "leaving", ""
    if snapshot.offline(instance.node_id) and instance.live:
        return "lost", ""
    if instance.spec_hash != target.spec_hash:
        return "outdated", ""
    if instance.status == "stopped" and instance.workload.restart != "always":
        return "done", ""
    why = why_broken(instance, settled, times, now_s)
    if why:
        return "broken", why
    return {"ready": "ready", "failed": "failed"}.get(instance.status, "starting"), ""
