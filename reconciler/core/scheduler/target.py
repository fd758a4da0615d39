"""What an instance of a process should be now. Called by `groups` and `placement`.

`spec_hash` is the digest of the workload without its address, and of the versions of its secrets. Two instances with
the same hash do the same thing; a changed hash means a new instance, never a change of an old one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kit.canonical import digest
from kit.codec import to_json
from kit.wire import Mount, SecretRef, Workload
from reconciler.core.model import ProcessSpec, ResourceId
from reconciler.core.scheduler.snapshot import App, Instance, Secret, Snapshot


@dataclass(frozen=True, slots=True)
class Target:
    """`workload` lacks its address: that is known when a node is."""

    spec_hash: str
    workload: Workload
    secrets: tuple[Secret, ...]
    process: ProcessSpec


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no target: these secrets are not declared."""

    secrets: tuple[str, ...]


def target_of(snapshot: Snapshot, app: App, name: str) -> Target | Missing:
    process = app.release.processes[name]
    ids = [_sibling(app.identity, "secret", secret) for secret in sorted(process.secrets)]
    missing = [secret_id for secret_id in ids if secret_id not in snapshot.secrets]
    if missing:
        return Missing(tuple(missing))
    secrets = tuple(snapshot.secrets[secret_id] for secret_id in ids)
    workload = _workload(app, name, process, secrets)
    versions = [[secret.secret_id, secret.version_id] for secret in secrets]
    return Target(digest([to_json(workload), versions], length=32), workload, secrets, process)


def like(instance: Instance, process: ProcessSpec) -> Target:
    """Another one of what the instance is."""
    return Target(instance.spec_hash, with_address(instance.workload, ""), instance.secrets, process)


def with_address(workload: Workload, address: str) -> Workload:
    return replace(workload, address=address)


def _workload(app: App, name: str, process: ProcessSpec, secrets: tuple[Secret, ...]) -> Workload:
    return Workload(
        app=app.app_id,
        env=app.identity.env,
        process=name,
        release_id=app.deployment.release_id,
        image=process.image,
        memory_bytes=process.memory_bytes,
        cpu=process.cpu,
        disk_bytes=process.disk_bytes,
        address="",
        command=process.command,
        environment=dict(sorted(process.environment.items())),
        ports=process.ports,
        health=process.health,
        mounts=_mounts(app.identity, process),
        secret=SecretRef(_secrets_version(secrets)) if secrets else None,
        restart=process.restart,
        start_timeout_s=process.update.start_timeout_s,
    )


def _mounts(app: ResourceId, process: ProcessSpec) -> tuple[Mount, ...]:
    mounts = [Mount(_sibling(app, "volume", use.volume), use.path, use.read_only) for use in process.volumes]
    return tuple(sorted(mounts, key=lambda mount: (mount.volume_id, mount.path)))


def _secrets_version(secrets: tuple[Secret, ...]) -> str:
    return "s-" + digest([[secret.secret_id, secret.version_id] for secret in secrets], length=32)


def _sibling(app: ResourceId, kind: str, name: str) -> str:
    """The id of a resource of the same app and environment."""
    return "/".join((app.org, app.project, app.env, app.name, kind, name))
