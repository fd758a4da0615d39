"""The views as one immutable picture: the only input of the scheduler. Made by `reconciler.tasks.scheduler`.

A row that cannot be understood stops only itself: its app is left out of the picture and named in `unreadable`, and
nothing is drained on that ground. The same holds for an app whose release or deployment has no row yet.

An app that an operator has suspended, or whose environment is, is in the picture as it was wanted when that began,
whatever Git has said since; one that Git declared later is not there at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kit.codec import from_json, to_json
from kit.errors import TrueupError
from kit.wire import MACHINE_OVERHEAD_BYTES, Mount, Workload
from reconciler.core.act_scopes import app_scope, env_scope
from reconciler.core.acts import replicas_of
from reconciler.core.copies import OVER
from reconciler.core.model import AppSpec, ResourceId
from reconciler.core.quotas import limits_of

Doc = Mapping[str, Any]
Rows = Mapping[str, Mapping[str, Doc]]

VIEWS = (
    "acts",
    "deployments",
    "instances",
    "nodes",
    "quotas",
    "releases",
    "resources",
    "restores",
    "revisions",
    "sources",
    "tombstones",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Why something exists: goes into the cause of what follows from it."""

    org: str
    source_id: str = ""
    commit: str = ""
    path: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Deployment:
    deployment_id: str
    app: str
    release_id: str
    status: str
    message: str
    origin: Origin
    seq: int


@dataclass(frozen=True, slots=True)
class App:
    """`replicas`, by process, says how many, `release` says what: the replicas are not part of a release. `suspended`:
    what there is of it is kept up, and nothing else. `declared`: Git has it still."""

    app_id: str
    replicas: Mapping[str, int]
    release: AppSpec
    deployment: Deployment
    origin: Origin
    unschedulable: Mapping[str, str]  # process -> reason
    suspended: bool = False
    declared: bool = True

    @property
    def identity(self) -> ResourceId:
        return ResourceId.parse(self.app_id)


@dataclass(frozen=True, slots=True)
class Secret:
    secret_id: str
    version_id: str
    blob: str


@dataclass(frozen=True, slots=True)
class Instance:
    instance_id: str
    node_id: str
    app: str
    process: str
    release_id: str
    spec_hash: str
    desired: str
    status: str
    reason_code: str
    reason_detail: str
    restarts: int
    drain_grace_s: float
    workload: Workload
    origin: Origin
    seq: int
    deployment_id: str = ""
    secrets: tuple[Secret, ...] = ()
    overhead_bytes: int = 0
    """What was counted for its machine when it was allocated."""

    @property
    def allocated(self) -> Doc:
        """As instance.allocated says it, as far as claims follow from it."""
        about = {"instance_id": self.instance_id, "app": self.app, "overhead_bytes": self.overhead_bytes}
        return {**about, "workload": to_json(self.workload)}

    @property
    def taken_bytes(self) -> int:
        """Of quotas."""
        return self.workload.memory_bytes + self.overhead_bytes

    @property
    def live(self) -> bool:
        """It uses, or may use, its node."""
        return self.status != "stopped"

    @property
    def mounts(self) -> tuple[Mount, ...]:
        return self.workload.mounts


@dataclass(frozen=True, slots=True)
class Node:
    """`overhead_bytes`: what each machine costs the node above its workload's memory. `active`: it is heard. `duty`:
    what an operator lets it do."""

    node_id: str
    subnet: str
    memory_bytes: int
    overhead_bytes: int
    active: bool
    duty: str = "active"
    duty_reason: str = ""

    @property
    def takes_more(self) -> bool:
        return self.active and self.duty == "active"

    @property
    def duty_text(self) -> str:
        return f"node {self.node_id} is {self.duty} ({self.duty_reason})"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything is sorted by id. `limits`: scope -> its quota, where there is one. `homes`: volume id -> home node, ""
    before it is placed. `restoring`: volume id -> the restore that is filling it. `tombstones`: (volume id, node) whose
    data is still to be deleted. `apps_known`: ids of all apps with a row, the unreadable ones included, and of those
    that Git has removed while they are suspended."""

    event_id: int
    apps: Mapping[str, App]
    apps_known: frozenset[str]
    deployments: Mapping[str, Deployment]
    instances: tuple[Instance, ...]
    nodes: Mapping[str, Node]
    secrets: Mapping[str, Secret]
    homes: Mapping[str, str]
    volume_origins: Mapping[str, Origin]
    restoring: Mapping[str, str]
    tombstones: frozenset[tuple[str, str]]
    limits: Mapping[str, Mapping[str, int]]
    unreadable: Mapping[str, str]  # id -> why
    used_beside: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """ORG/PROJECT/ENV -> what counts for quotas besides `instances`: of apps that a preview leaves out."""

    def offline(self, node_id: str) -> bool:
        """A node that is not known is not offline: unknown is not absent."""
        return node_id in self.nodes and not self.nodes[node_id].active

    def off_duty(self, node_id: str) -> str:
        """Why what can leave the node shall leave it; "" when it may stay."""
        node = self.nodes.get(node_id)
        return node.duty_text if node is not None and node.duty != "active" else ""


class Memory:
    """What the last picture was made of. From the very same rows the same is read again, so it is taken from here:
    with thousands of apps, and a few changes from pass to pass, that is nearly all of it."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, tuple[tuple[object, ...], Any]]] = {}


def read_snapshot(rows: Rows, event_id: int, memory: Memory | None = None) -> Snapshot:
    """`rows`: of all `VIEWS`, from one transaction; `event_id` as that snapshot says."""
    memory = memory or Memory()
    resources = rows["resources"]
    unreadable: dict[str, str] = {}
    deployments = _remembered("deployment", rows["deployments"], _deployment, unreadable, memory)
    apps = _remembered(
        "app",
        _of_kind(resources, "app"),
        lambda row: _app(row, rows["releases"], deployments),
        unreadable,
        memory,
        lambda row: (rows["releases"].get(row.get("release_id", "")), deployments.get(row.get("deployment_id", ""))),
    )
    frozen = _frozen(rows.get("acts", {}))
    apps.update(_read(frozen, lambda each: _as_frozen(each, rows, deployments), unreadable))
    suspended = frozenset(row["scope"] for row in rows.get("acts", {}).values() if row["act"] == "suspend")
    volumes = _of_kind(resources, "volume")
    return Snapshot(
        event_id=event_id,
        apps={key: apps[key] for key in sorted(apps) if key in frozen or not _scopes(key) & suspended},
        apps_known=frozenset((*_of_kind(resources, "app"), *frozen)),
        deployments=deployments,
        instances=tuple(_remembered("instance", rows["instances"], _instance, unreadable, memory).values()),
        nodes=_read(rows["nodes"], _node, unreadable),
        secrets=_read(_of_kind(resources, "secret"), _secret, unreadable),
        homes={volume_id: row.get("home_node") or "" for volume_id, row in volumes.items()},
        volume_origins={volume_id: _origin(row, volume_id) for volume_id, row in volumes.items()},
        restoring=_restoring(rows.get("restores", {})),
        tombstones=frozenset((row["resource_id"], row["node_id"]) for row in rows["tombstones"].values()),
        limits=limits_of(rows),
        unreadable=unreadable,
    )


def _of_kind(resources: Mapping[str, Doc], kind: str) -> dict[str, Doc]:
    return {key: resources[key] for key in sorted(resources) if resources[key]["kind"] == kind}


def _read(rows: Mapping[str, Doc], read: Any, unreadable: dict[str, str]) -> dict[str, Any]:
    found = {}
    for key in sorted(rows):
        try:
            value = read(rows[key])
        except (TrueupError, KeyError, TypeError, ValueError, AssertionError) as error:
            unreadable[key] = f"{type(error).__name__}: {error}"
            continue
        if value is not None:
            found[key] = value
    return found


def _remembered(
    what: str,
    rows: Mapping[str, Doc],
    read: Callable[[Doc], Any],
    unreadable: dict[str, str],
    memory: Memory,
    beside: Callable[[Doc], tuple[object, ...]] = lambda row: (),
) -> dict[str, Any]:
    """As `_read`, for what the row and `beside` (what else it is read from) say. The same are the same objects."""
    known = memory.known.get(what, {})
    now = {key: (row, *beside(row)) for key, row in rows.items()}
    same = {key for key, given in now.items() if key in known and _same(known[key][0], given)}
    fresh = _read({key: row for key, row in rows.items() if key not in same}, read, unreadable)
    found = {key: known[key][1] if key in same else fresh[key] for key in sorted(now) if key in same or key in fresh}
    memory.known[what] = {key: (now[key], value) for key, value in found.items()}
    return found


def _same(left: tuple[object, ...], right: tuple[object, ...]) -> bool:
    return all(one is other for one, other in zip(left, right, strict=True))


def _origin(row: Doc, identity: str) -> Origin:
    origin = row.get("origin") or {}
    return Origin(
        org=identity.split("/", 1)[0],
        source_id=origin.get("source_id", ""),
        commit=origin.get("commit", ""),
        path=origin.get("path", ""),
        line=origin.get("line", 0),
    )


def _deployment(row: Doc) -> Deployment:
    return Deployment(
        deployment_id=row["deployment_id"],
        app=row["app"],
        release_id=row["release_id"],
        status=row["status"],
        message=row.get("message") or "",
        origin=_origin(row, row["app"]),
        seq=row["aggregate_seq"],
    )


def _app(row: Doc, releases: Mapping[str, Doc], deployments: Mapping[str, Deployment]) -> App | None:
    """None while the views of its release or its deployment have not come as far as this row."""
    release, deployment = releases.get(row.get("release_id", "")), deployments.get(row.get("deployment_id", ""))
    if release is None or deployment is None:
        return None
    return App(
        app_id=row["resource_id"],
        replicas=_replicas(row),
        release=from_json(AppSpec, release["spec"], where=f"spec of {row['release_id']}"),
        deployment=deployment,
        origin=_origin(row, row["resource_id"]),
        unschedulable=_unschedulable(row),
    )


def _replicas(row: Doc) -> Mapping[str, int]:
    from_json(AppSpec, row["spec"], where=f"spec of {row['resource_id']}")  # says what is wrong with it
    return replicas_of(row)


def _scopes(app_id: str) -> frozenset[str]:
    app = ResourceId.parse(app_id)
    return frozenset((app_scope(app), env_scope(app)))


def _frozen(acts: Mapping[str, Doc]) -> dict[str, Doc]:
    """App -> as it was wanted when the first of its suspensions began."""
    suspensions = [row for row in acts.values() if row["act"] == "suspend"]
    newest_first = sorted(suspensions, key=lambda row: -int(row["created_event_id"]))
    return {each["app"]: each for row in newest_first for each in row["apps"]}


def _as_frozen(frozen: Doc, rows: Rows, deployments: Mapping[str, Deployment]) -> App | None:
    row = rows["resources"].get(frozen["app"])
    release, deployment = rows["releases"].get(frozen["release_id"]), deployments.get(frozen["deployment_id"])
    if release is None or deployment is None:
        return None
    return App(
        app_id=frozen["app"],
        replicas=frozen["replicas"],
        release=from_json(AppSpec, release["spec"], where=f"spec of {frozen['release_id']}"),
        deployment=deployment,
        origin=deployment.origin,
        unschedulable=_unschedulable(row or {}),
        suspended=True,
        declared=row is not None,
    )


def _unschedulable(row: Doc) -> dict[str, str]:
    return {name: entry["reason"] for name, entry in (row.get("unschedulable") or {}).items()}


def _instance(row: Doc) -> Instance:
    return Instance(
        instance_id=row["instance_id"],
        node_id=row["node_id"],
        app=row["app"],
        process=row["process"],
        release_id=row["release_id"],
        spec_hash=row["spec_hash"],
        desired=row["desired"],
        status=row["status"],
        reason_code=row.get("reason_code") or "",
        reason_detail=row.get("reason_detail") or "",
        restarts=row.get("restarts") or 0,
        drain_grace_s=float(row["drain_grace_s"]),
        workload=from_json(Workload, row["workload"], where=f"workload of {row['instance_id']}"),
        origin=_origin(row, row["app"]),
        deployment_id=row["deployment_id"],
        secrets=tuple(Secret(each["resource_id"], each["version_id"], each["blob"]) for each in row["secrets"]),
        overhead_bytes=row.get("overhead_bytes", 0),
        seq=row["aggregate_seq"],
    )


def _node(row: Doc) -> Node:
    return Node(
        row["node_id"],
        row["subnet"],
        row["memory_bytes"],
        MACHINE_OVERHEAD_BYTES.get(row["accelerator"], max(MACHINE_OVERHEAD_BYTES.values())),
        active=(row.get("state") or "active") == "active",
        duty=row.get("duty") or "active",
        duty_reason=row.get("duty_reason") or "",
    )


def _restoring(restores: Mapping[str, Doc]) -> dict[str, str]:
    return {row["volume_id"]: key for key, row in sorted(restores.items()) if row["status"] not in OVER}


def _secret(row: Doc) -> Secret:
    return Secret(row["resource_id"], row["spec"]["version_id"], row["spec"].get("blob", ""))
