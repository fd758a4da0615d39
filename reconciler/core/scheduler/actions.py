"""What one pass wants to do, as named lists that a test can print and a person can judge. Made by `schedule`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from reconciler.core.commands import Claim
from reconciler.core.scheduler.snapshot import Origin
from reconciler.core.scheduler.target import Target
from reconciler.core.scheduler.times import Times


@dataclass(frozen=True, slots=True)
class Allocate:
    """`overhead_bytes`: what its machine costs the node above the workload's memory."""

    instance_id: str
    node_id: str
    address: str
    app: str
    process: str
    deployment_id: str
    target: Target
    overhead_bytes: int
    origin: Origin

    def __str__(self) -> str:
        return f"allocate {self.instance_id} ({self.app} {self.process}) on {self.node_id} at {self.address}"


@dataclass(frozen=True, slots=True)
class Drain:
    """`free`: what the instance gives back with this: its use of quotas when it shall be stopped, its address and
    volumes too when it has stopped already. `seq`: its version, so that this is decided anew when it moved on."""

    instance_id: str
    node_id: str
    app: str
    desired: str  # draining or stopped
    drain_grace_s: float
    reason: str
    reason_code: str
    origin: Origin
    seq: int
    free: tuple[Claim, ...] = ()

    def __str__(self) -> str:
        verb = "drain" if self.desired == "draining" else "stop"
        return f"{verb} {self.instance_id} on {self.node_id}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PlaceVolume:
    """Of a volume that has no home."""

    volume_id: str
    node_id: str
    origin: Origin

    def __str__(self) -> str:
        return f"place volume {self.volume_id} on {self.node_id}"


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    deployment_id: str
    app: str
    status: str
    message: str
    seconds: float
    seq: int
    origin: Origin

    def __str__(self) -> str:
        return f"deployment {self.deployment_id} of {self.app} {self.status}: {self.message}"


@dataclass(frozen=True, slots=True)
class Schedulability:
    """`reason` "": it is schedulable again."""

    app: str
    process: str
    reason: str
    message: str
    origin: Origin

    def __str__(self) -> str:
        verdict = f"unschedulable, {self.reason}: {self.message}" if self.reason else "schedulable"
        return f"{self.app} {self.process} {verdict}"


@dataclass(frozen=True, slots=True)
class Actions:
    """`wake_at_s`: when time alone may change the answer. `more`: the bound cut this pass short; the next follows at
    once. `matching`: apps whose every process is as it should be. `times`: the clocks, for the next pass."""

    allocate: tuple[Allocate, ...] = ()
    drain: tuple[Drain, ...] = ()
    stop: tuple[Drain, ...] = ()
    place_volume: tuple[PlaceVolume, ...] = ()
    deployments: tuple[DeploymentStatus, ...] = ()
    unschedulable: tuple[Schedulability, ...] = ()
    schedulable: tuple[Schedulability, ...] = ()
    wake_at_s: float | None = None
    more: bool = False
    matching: frozenset[str] = frozenset()
    times: Times = field(default_factory=Times)

    def __iter__(self) -> Iterator[Allocate | Drain | PlaceVolume | DeploymentStatus | Schedulability]:
        """In the order in which they are recorded: a volume has its home before an instance mounts it."""
        yield from self.stop
        yield from self.drain
        yield from self.place_volume
        yield from self.allocate
        yield from self.deployments
        yield from self.unschedulable
        yield from self.schedulable

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __str__(self) -> str:
        return "\n".join(str(action) for action in self) or "nothing to do"
