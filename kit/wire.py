"""The documents that travel between the controller, the agents and the edges.

Written by `reconciler.core.plans`, carried by `reconciler.server`, read by `agent` and `edge`; reports travel the
other way. A plan is a whole: it says everything that its reader should do, with a generation; newest wins, an older one
is refused, the same one twice is a no-op. The JSON Schemas are in schemas/wire/. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

InstanceStatus = Literal["preparing", "booting", "ready", "unready", "draining", "stopped", "failed"]
"""Observed by the agent. `unready`: it runs, its health check fails. `failed`: it does not run; the agent tries again
with backoff (then `booting`) unless its restart policy says no. `stopped`: it ran to its wanted end; final."""


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Health:
    """A check that the agent itself makes against the instance's address."""

    kind: Literal["tcp", "http"]
    port: int
    path: str = "/"
    interval_s: float = 10.0
    timeout_s: float = 2.0
    grace_s: float = 10.0
    successes: int = 1
    failures: int = 3


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume of this node in the guest's file tree."""

    volume_id: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class SecretRef:
    """The one secret file of an instance. The agent fetches it by `version_id`, sealed to its own key."""

    version_id: str
    path: str = "/run/secrets/platform.env"
    mode: int = 0o400


@dataclass(frozen=True, slots=True)
class Workload:
    """What one microVM runs. It never changes for an instance: a changed workload is a new instance."""

    app: str
    env: str
    process: str
    release_id: str
    image: str  # REGISTRY/NAME@sha256:DIGEST
    memory_bytes: int
    cpu: float
    disk_bytes: int  # private writable layer
    address: str  # IPv6 address of the guest, inside the node's subnet
    command: tuple[str, ...] = ()  # empty: the image's own
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    health: Health | None = None
    mounts: tuple[Mount, ...] = ()
    secret: SecretRef | None = None
    restart: Literal["always", "on-failure", "never"] = "always"
    start_timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class PlannedInstance:
    """`desired`: running, draining (serve what is open, then stop after the grace) or stopped (at once)."""

    instance_id: str
    epoch: int  # from 1; grows when the same instance may run anew; an older epoch must not run
    desired: Literal["running", "draining", "stopped"]
    drain_grace_s: float
    workload: Workload


@dataclass(frozen=True, slots=True)
class PlannedVolume:
    """`desired` deleted is the tombstone: only it removes data; a volume that a plan does not name is left alone."""

    volume_id: str
    name: str
    size_bytes: int
    desired: Literal["present", "deleted"]
    filesystem: str = "ext4"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """An instance that the agent runs and the plan does not name is drained and stopped."""

    node_id: str
    log_id: str
    generation: int  # the event_id up to which the views were read
    instances: tuple[PlannedInstance, ...] = ()
    volumes: tuple[PlannedVolume, ...] = ()
    spec_version: int = 1
    digest: str = ""  # of the items: `kit.plan_delta`


@dataclass(frozen=True, slots=True)
class Backend:
    instance_id: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """`tls_passthrough` shares a listen port by SNI; `tcp_raw` owns its listen port."""

    route_id: str
    hostname: str
    listen_port: int
    protocol: Literal["tls_passthrough", "tcp_raw"]
    proxy_protocol: Literal["off", "v2"]
    backends: tuple[Backend, ...] = ()


@dataclass(frozen=True, slots=True)
class RoutePlan:
    edge_id: str
    log_id: str
    generation: int
    routes: tuple[PlannedRoute, ...] = ()
    spec_version: int = 1
    digest: str = ""  # of the items: `kit.plan_delta`


@dataclass(frozen=True, slots=True)
class PlanDelta:
    """Instead of a plan, for who named the digest of the plan that it holds (`base`) and is known to hold it. By list:
    whole items that are new or changed, and the names of those that are gone. `digest`: of the plan that results."""

    log_id: str
    generation: int
    base: str
    digest: str
    changed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the edge reaches a guest's port. With a bridge it is the guest's own address and port; with qemu's user
    network it is the node's address and a forwarded port."""

    port: int
    address: str
    reach_port: int


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """One transition that the agent saw. `counter` grows by one with each report of the agent's lifetime (kept on
    disk), so that the same report sent twice is one event. `reason_code` is one of REASON_CODES when status is failed
    or unready."""

    instance_id: str
    epoch: int
    counter: int
    status: InstanceStatus
    observed_at: str  # RFC 3339; for people; decides nothing
    boot_id: str = ""
    reason_code: str = ""
    reason_detail: str = ""
    exit_code: int | None = None
    restarts: int = 0
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class VolumeReport:
    volume_id: str
    counter: int
    status: Literal["available", "in_use", "deleted", "failed"]
    observed_at: str
    reason_detail: str = ""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """POST /v1/nodes/NODE/reports. Batched; answered with a `ReportTaken`."""

    node_id: str
    instances: tuple[InstanceReport, ...] = ()
    volumes: tuple[VolumeReport, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedReport:
    """What would be refused again: of an old epoch, of another node's instance, of a transition that cannot be."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class ReportTaken:
    """`counter`: the highest that needs not be sent again, or a higher one that is known of what was told about."""

    counter: int
    refused: tuple[RefusedReport, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteReport:
    route_id: str
    status: Literal["active", "failed"]
    backends: int
    reason_detail: str = ""


@dataclass(frozen=True, slots=True)
class EdgeReport:
    """POST /v1/edges/EDGE/reports: what is applied now, sent when it changes."""

    edge_id: str
    applied_generation: int
    observed_at: str
    routes: tuple[RouteReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """POST /v1/nodes/NODE/enrol, at each start of the agent; the same content twice is a no-op."""

    node_id: str
    subnet: str  # IPv6 /64 for guests
    memory_bytes: int  # for guests: physical less reserved
    cpu: float
    disk_bytes: int
    seal_recipient: str  # age X25519 recipient; secrets for this node are encrypted to it
    accelerator: str  # "kvm" or "tcg"
    agent_version: str


GUEST_KERNEL_BYTES = 72 << 20
"""What the guest's kernel keeps for itself. A machine gets it on top, so that the workload has what its manifest
says."""

MACHINE_OVERHEAD_BYTES = {"kvm": GUEST_KERNEL_BYTES + (96 << 20), "tcg": GUEST_KERNEL_BYTES + (224 << 20)}
"""What a machine may cost its node above its workload's memory, by accelerator: the guest's kernel, qemu, and under
software emulation its translation cache. The agent limits a machine to this; the scheduler counts it."""

REASON_CODES = (
    "image_pull_failed",
    "image_not_found",
    "image_digest_mismatch",
    "registry_unreachable",
    "image_too_large",
    "rootfs_build_failed",
    "vmm_start_failed",
    "network_setup_failed",
    "volume_attach_failed",
    "secrets_missing",
    "secrets_injection_failed",
    "healthcheck_failed",
    "start_timeout",
    "oom_killed",
    "process_exited",
    "vm_died",
    "crash_loop_backoff",
    "terminated_by_operator",
    "node_draining",
    "node_offline",
)
"""Closed: a reader that meets another word treats it as a bug of the writer."""
