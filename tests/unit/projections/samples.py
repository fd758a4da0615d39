"""A valid payload for every event type, and events made of them. For the tests of the projections and of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.core.events import Cause, Event, NewEvent, newest_version

CAUSE = Cause("user", "ann@example.org", "acme", "shop", "c0ffee00", "apps/site.yaml", 3, "shop@c0ffee00", 0)

APP = "acme/shop/prod/site/app/site"
ROUTE = "acme/shop/prod/site/route/www"
VOLUME = "acme/shop/prod/site/volume/data"
SECRET = "acme/shop/prod/site/secret/keys"
ENVIRONMENT = "acme/shop/prod/-/environment/prod"
RESOURCES = {"app": APP, "route": ROUTE, "volume": VOLUME, "secret": SECRET, "environment": ENVIRONMENT}

HEALTH = {
    "kind": "http",
    "port": 8080,
    "path": "/healthz",
    "interval_s": 10.0,
    "timeout_s": 2.0,
    "grace_s": 10.0,
    "successes": 1,
    "failures": 3,
}
PROCESS = {
    "image": "registry.example/site@sha256:" + "a" * 64,
    "memory_bytes": 134217728,
    "cpu": 1.0,
    "disk_bytes": 1073741824,
    "replicas": 2,
    "command": ["/bin/site", "--port", "8080"],
    "environment": {"MODE": "live"},
    "ports": [{"name": "http", "port": 8080}],
    "health": HEALTH,
    "volumes": [{"volume": "data", "path": "/data", "read_only": False}],
    "secrets": ["keys"],
    "update": {"surge": 1, "drain_grace_s": 10.0, "start_timeout_s": 120.0},
    "restart": "always",
}
SPECS: Mapping[str, Mapping[str, Any]] = {
    "app": {"processes": {"web": PROCESS}},
    "route": {
        "hostname": "www.example.org",
        "process": "web",
        "port": 8080,
        "listen_port": 443,
        "protocol": "tls_passthrough",
        "proxy_protocol": "off",
    },
    "volume": {"size_bytes": 1073741824, "filesystem": "ext4"},
    "secret": {"version_id": "v-1", "keys": ["TOKEN"], "blob": "b" * 40},
    "environment": {"description": "live", "quota": {"instances": 10, "memory_bytes": 1073741824}},
}
RELEASED = {"processes": {"web": {name: value for name, value in PROCESS.items() if name != "replicas"}}}
WORKLOAD = {
    "app": APP,
    "env": "prod",
    "process": "web",
    "release_id": "r-000000000001",
    "image": PROCESS["image"],
    "memory_bytes": 134217728,
    "cpu": 1.0,
    "disk_bytes": 1073741824,
    "address": "fd00::1",
    "command": [],
    "environment": {},
    "ports": [{"name": "http", "port": 8080}],
    "health": None,
    "mounts": [{"volume_id": VOLUME, "path": "/data", "read_only": False}],
    "secret": {"version_id": "v-1", "path": "/run/secrets/platform.env", "mode": 256},
    "restart": "always",
    "start_timeout_s": 120.0,
}
FINDING = {
    "path": "apps/site.yaml",
    "line": 4,
    "column": 7,
    "pointer": "/spec/memory",
    "code": "manifest_invalid",
    "message": "too small",
    "fix": "give at least 64Mi",
    "severity": "error",
}
REVISION = {"source_id": "shop", "commit": "c0ffee00", "base": "", "author": "ann", "subject": "Add the site"}


def _resource_payloads() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for kind, resource_id in RESOURCES.items():
        named = {"resource_id": resource_id}
        found[f"{kind}.created"] = {**named, "spec": SPECS[kind]}
        home = {"node_id": "node-a"} if kind == "volume" else {}
        found[f"{kind}.updated"] = {**named, "spec": SPECS[kind], "previous_spec": SPECS[kind], **home}
        found[f"{kind}.moved"] = named
        found[f"{kind}.marked"] = {**named, "protect": True, "removal": ""}
        found[f"{kind}.deleted"] = {**named, **home}
        if kind in ("volume", "secret"):
            found[f"{kind}.retained"] = {**named, "reason": "the removal is not confirmed"}
    return found


PAYLOADS: Mapping[str, dict[str, Any]] = {
    **_resource_payloads(),
    "source.removed": {"source_id": "shop", "resources": 3, "reason": "the repository is archived"},
    "source.registered": {
        "source_id": "shop",
        "org": "acme",
        "project": "shop",
        "previous_org": "",
        "url": "https://git.example/shop",
        "branch": "main",
        "path": "",
    },
    "revision.refused": {**REVISION, "findings": [FINDING]},
    "revision.applied": {
        **REVISION,
        "changes": [{"verb": "create", "resource_id": APP, "path": "apps/site.yaml", "line": 1}],
        "findings": [],
        "held": [{"app": "acme/shop/prod/blog/app/blog", "findings": [FINDING], "files": ["apps/blog.yaml"]}],
        "released": ["acme/shop/prod/wiki/app/wiki"],
        "signers": [{"commit": "c0ffee00", "signer": "ann", "kind": "ssh", "fingerprint": "SHA256:abc"}],
        "signers_omitted": 0,
    },
    "revision.converged": {"source_id": "shop", "commit": "c0ffee00", "seconds": 12.5},
    "revision.seen": {**REVISION, "commits": 1, "pull_request": "#12"},
    "revision.validated": {"source_id": "shop", "commit": "c0ffee00", "base": "", "resources": 4},
    "revision.planned": {
        "source_id": "shop",
        "commit": "c0ffee00",
        "base": "",
        "created": 4,
        "updated": 0,
        "moved": 0,
        "removed": 0,
        "retained": 0,
        "held": 0,
    },
    "revision.failed": {
        "source_id": "shop",
        "commit": "c0ffee00",
        "reason": "deployment_failed",
        "message": "app site: it broke",
        "seconds": 61.5,
        "deployments": [{"deployment_id": "d-000000000001", "app": APP, "message": "it broke"}],
    },
    "revision.superseded": {
        "source_id": "shop",
        "commit": "c0ffee00",
        "author": "ann",
        "subject": "Add the site",
        "by": "c0ffee01",
        "was": "applied",
    },
    "volume.placed": {"resource_id": VOLUME, "node_id": "node-a", "previous_node_id": ""},
    "volume.status_changed": {
        "resource_id": VOLUME,
        "node_id": "node-a",
        "status": "available",
        "reason_detail": "",
    },
    "route.status_changed": {
        "resource_id": ROUTE,
        "edge_id": "edge-a",
        "status": "active",
        "backends": 2,
        "reason_detail": "",
    },
    "release.created": {"release_id": "r-000000000001", "app": APP, "spec": RELEASED, "number": 1},
    "deployment.created": {
        "deployment_id": "d-000000000001",
        "app": APP,
        "release_id": "r-000000000001",
        "kind": "deploy",
        "reason": "commit",
    },
    "deployment.status_changed": {
        "deployment_id": "d-000000000001",
        "app": APP,
        "status": "succeeded",
        "message": "",
        "seconds": 9.0,
    },
    "instance.allocated": {
        "instance_id": "i-1",
        "node_id": "node-a",
        "app": APP,
        "process": "web",
        "release_id": "r-000000000001",
        "deployment_id": "d-000000000001",
        "spec_hash": "e" * 12,
        "epoch": 1,
        "workload": WORKLOAD,
        "overhead_bytes": 104 << 20,
        "drain_grace_s": 10.0,
        "secrets": [{"resource_id": SECRET, "version_id": "v-1", "blob": "b" * 40}],
    },
    "instance.desired_state_changed": {
        "instance_id": "i-1",
        "node_id": "node-a",
        "app": APP,
        "desired": "draining",
        "drain_grace_s": 5.0,
        "reason": "scaled down",
        "reason_code": "",
    },
    "instance.status_changed": {
        "instance_id": "i-1",
        "node_id": "node-a",
        "app": APP,
        "status": "ready",
        "epoch": 1,
        "counter": 1,
        "boot_id": "b-1",
        "reason_code": "",
        "reason_detail": "",
        "exit_code": None,
        "restarts": 0,
        "endpoints": [{"port": 8080, "address": "fd00::1", "reach_port": 8080}],
        "observed_at": "2026-01-01T00:00:00Z",
    },
    "app.unschedulable": {"resource_id": APP, "process": "web", "reason": "no_nodes_active", "message": "no node"},
    "app.schedulable": {"resource_id": APP, "process": "web"},
    "node.enrolled": {
        "node_id": "node-a",
        "subnet": "fd00::/64",
        "memory_bytes": 8589934592,
        "cpu": 4.0,
        "disk_bytes": 107374182400,
        "seal_recipient": "age1example",
        "accelerator": "kvm",
        "agent_version": "0.1.0",
    },
    "node.state_changed": {"node_id": "node-a", "state": "offline", "reason": "no heartbeat"},
    "node.duty_changed": {"node_id": "node-a", "duty": "draining", "reason": "new disks", "until": ""},
    "suspension.begun": {
        "scope": "app/acme/shop/prod/site",
        "reason": "an incident",
        "until": "",
        "apps": [
            {
                "app": APP,
                "release_id": "r-000000000001",
                "deployment_id": "d-000000000001",
                "replicas": {"web": 2},
            }
        ],
    },
    "suspension.ended": {"scope": "app/acme/shop/prod/site", "reason": "it is over"},
    "app.held": {
        "resource_id": APP,
        "release_id": "r-000000000001",
        "defied_release_id": "r-000000000002",
        "defied_commit": "c0ffee00",
        "replicas": {},
        "reason": "version 2 loses mails",
        "until": "",
    },
    "app.hold_ended": {"resource_id": APP, "reason": "version 3 is there"},
    "identity.invited": {
        "identity_id": "node/node-a",
        "token_id": "j-1",
        "digest": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
        "expires_at": "2026-01-01T00:10:00Z",
    },
    "identity.joined": {
        "identity_id": "node/node-a",
        "token_id": "j-1",
        "generation": 1,
        "key_id": "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
        "remote": "fd00::a",
    },
    "identity.token_misused": {
        "identity_id": "node/node-a",
        "token_id": "j-1",
        "reason_code": "token_used",
        "remote": "fd00::bad",
    },
    "identity.revoked": {"identity_id": "node/node-a", "reason": "the host was stolen"},
    "token.created": {
        "token_id": "t-1",
        "name": "ci",
        "digest": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
        "org": "*",
        "project": "*",
        "verbs": ["read"],
        "expires_at": "2026-02-01T00:00:00Z",
    },
    "token.revoked": {"token_id": "t-1", "reason": "ci moved"},
    "quota.set": {"scope": "acme/shop", "limits": {"routes": 20, "volume_bytes": 1099511627776}},
    "snapshot.created": {
        "snapshot_id": "s-1",
        "volume_id": VOLUME,
        "node_id": "node-a",
        "volume_bytes": 1073741824,
        "note": "before the upgrade",
    },
    "snapshot.status_changed": {
        "snapshot_id": "s-1",
        "volume_id": VOLUME,
        "node_id": "node-a",
        "status": "running",
        "size_bytes": None,
        "sha256": "",
        "reason_code": "",
        "reason_detail": "",
    },
    "backup.created": {
        "backup_id": "b-1",
        "snapshot_id": "s-1",
        "volume_id": VOLUME,
        "node_id": "node-a",
        "volume_bytes": 1073741824,
    },
    "backup.status_changed": {
        "backup_id": "b-1",
        "volume_id": VOLUME,
        "node_id": "node-a",
        "status": "running",
        "size_bytes": None,
        "sha256": "",
        "object": "",
        "key_id": "",
        "reason_code": "",
        "reason_detail": "",
    },
    "restore.created": {
        "restore_id": "w-1",
        "volume_id": "acme/shop/prod/site/volume/again",
        "node_id": "node-b",
        "origin_kind": "backup",
        "origin_id": "b-1",
        "origin_volume_id": VOLUME,
    },
    "restore.status_changed": {
        "restore_id": "w-1",
        "volume_id": "acme/shop/prod/site/volume/again",
        "node_id": "node-b",
        "status": "running",
        "reason_code": "",
        "reason_detail": "",
    },
    "delivery.made": {
        "resource_id": SECRET,
        "version_id": "v-1",
        "identity_id": "node/node-a",
        "instance_id": "i-1",
        "app": APP,
        "recipient": "age1xyz",
        "form": "hpke-v1",
    },
    "log.restored": {"log_id": "b", "previous_log_id": "a", "epoch": 2, "reason": "the disk was lost"},
}
_ID_FIELD = {
    "log": "log_id",
    "source": "source_id",
    "release": "release_id",
    "deployment": "deployment_id",
    "instance": "instance_id",
    "node": "node_id",
    "suspension": "scope",
    "quota": "scope",
    "identity": "identity_id",
    "token": "token_id",
    "snapshot": "snapshot_id",
    "backup": "backup_id",
    "restore": "restore_id",
}


def new_event(event_type: str, **changes: Any) -> NewEvent:
    """A valid event of the type; `changes` replace fields of its payload."""
    payload = {**PAYLOADS[event_type], **changes}
    kind = event_type.partition(".")[0]
    if kind == "revision":
        revision_id = f"{payload['source_id']}@{payload['commit']}"
        return NewEvent(kind, revision_id, event_type, payload, newest_version(event_type))
    version = newest_version(event_type)
    return NewEvent(kind, payload[_ID_FIELD.get(kind, "resource_id")], event_type, payload, version)


def as_log(events: Iterable[NewEvent], cause: Cause = CAUSE) -> list[Event]:
    """The events with the places that a log would give them."""
    sequences: dict[tuple[str, str], int] = {}
    placed = []
    for event_id, event in enumerate(events, start=1):
        key = (event.aggregate_type, event.aggregate_id)
        sequences[key] = sequences.get(key, 0) + 1
        placed.append(
            Event(
                event_id,
                "2026-01-01T00:00:00.000Z",
                *key,
                sequences[key],
                event.event_type,
                event.event_version,
                f"c-{event_id}",
                cause,
                event.payload,
            )
        )
    return placed
