"""Since when each thing is as it is. Kept by `reconciler.tasks.scheduler` from pass to pass; pure.

The views hold no monotonic time, and wall clocks decide nothing. So the scheduler remembers when it first saw a thing
in its present phase. A controller that starts anew starts these clocks anew: a deadline comes later than it could
have, never earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reconciler.core.scheduler.snapshot import Instance, Snapshot

_BEFORE_BOOT = ("", "preparing")


@dataclass(frozen=True, slots=True)
class Broken:
    """The instances of one process that broke in one deployment, and when the last of them did."""

    instance_ids: frozenset[str]
    last_s: float


@dataclass(frozen=True, slots=True)
class Times:
    """`unready_s`: since when an instance is not ready. `booted_s`: since when it is past preparing without having been
    ready. `begun_s`: since when a rolling deployment or an applied revision is known. `free_s`: since when no operator
    holds a revision back. `broken`: by (deployment, process)."""

    unready_s: Mapping[str, float] = field(default_factory=dict)
    booted_s: Mapping[str, float] = field(default_factory=dict)
    begun_s: Mapping[str, float] = field(default_factory=dict)
    free_s: Mapping[str, float] = field(default_factory=dict)
    broken: Mapping[tuple[str, str], Broken] = field(default_factory=dict)

    def observe(
        self,
        snapshot: Snapshot,
        now_s: float,
        revisions: frozenset[str] = frozenset(),
        free: frozenset[str] = frozenset(),
    ) -> Times:
        """The clocks after having seen `snapshot`: new ones start, those of things that are gone or settled end.
        `revisions`, `free`: see `convergence.Waiting`."""
        unready = [each for each in snapshot.instances if each.status not in ("ready", "stopped")]
        begun = [each.deployment_id for each in snapshot.deployments.values() if each.status in ("rolling", "failed")]
        current = {app.deployment.deployment_id for app in snapshot.apps.values()}
        current |= {each.deployment_id for each in snapshot.instances}
        return Times(
            unready_s={each.instance_id: self.unready_s.get(each.instance_id, now_s) for each in unready},
            booted_s={
                each.instance_id: self.booted_s.get(each.instance_id, now_s)
                for each in unready
                if each.instance_id in self.booted_s or each.status not in _BEFORE_BOOT
            },
            begun_s={key: self.begun_s.get(key, now_s) for key in (*begun, *revisions)},
            free_s={key: self.free_s.get(key, now_s) for key in free},
            broken={key: value for key, value in self.broken.items() if key[0] in current},
        )

    def with_broken(self, deployment_id: str, process: str, broken: tuple[Instance, ...], now_s: float) -> Times:
        """Each broken instance counts once, for as long as its deployment is the current one."""
        key = (deployment_id, process)
        known = self.broken.get(key, Broken(frozenset(), now_s))
        fresh = {each.instance_id for each in broken} - known.instance_ids
        if not fresh:
            return self
        after = Broken(known.instance_ids | fresh, now_s)
        return replace(self, broken={**self.broken, key: after})
