"""The tar archive that a guest boots from. Pure. Made by `agent.starting`, read by `agent/guest/init`; see CONTRACT.md.

It may hold a secret, so it exists in memory only and is dropped as soon as the guest has it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence

from agent.ports import Link, RootImage
from kit.errors import Refusal
from kit.wire import Mount, SecretRef, Workload

ARCHIVE_BYTES_MAX = 4 << 20  # the guest refuses more


def boot_archive(
    instance_id: str,
    workload: Workload,
    image: RootImage,
    link: Link,
    secret: tuple[SecretRef, bytes] | None,
    unix_time_s: int,
) -> bytes:
    """`secret`: where it goes, and the plain file."""
    files = {
        "boot.env": _boot_env(instance_id, image, link, unix_time_s),
        "argv": _records(workload.command or image.argv, instance_id),
        "environ": _records(_environment(workload, image), instance_id),
        "mounts": _mounts(workload),
    }
    if secret is not None:
        reference, content = secret
        files["secret"] = content
        files["secret.path"] = reference.path.encode()
        files["secret.mode"] = f"{reference.mode:o}".encode()
    archive = _tar(files)
    if len(archive) > ARCHIVE_BYTES_MAX:
        why = f"command, environment and secret together take {len(archive)} bytes, at most {ARCHIVE_BYTES_MAX} fit"
        raise Refusal(f"boot {instance_id}", why, fix="shorten them", code="vmm_start_failed")
    return archive


def _boot_env(instance_id: str, image: RootImage, link: Link, unix_time_s: int) -> bytes:
    values = {
        "hostname": _hostname(instance_id),
        "address": link.address,
        "gateway": link.gateway,
        "address4": link.address4,
        "gateway4": link.gateway4,
        "dns": link.dns,
        "user": image.user,
        "workdir": image.workdir,
        "stop_signal": image.stop_signal,
        "time": str(unix_time_s),
    }
    for key, value in values.items():
        if "\n" in value or "\0" in value:
            raise Refusal(f"boot {instance_id}", f"the image's {key} has a line break", code="vmm_start_failed")
    return "".join(f"{key}={value}\n" for key, value in values.items()).encode()


def _hostname(instance_id: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in instance_id).strip("-")[:63] or "instance"


def _environment(workload: Workload, image: RootImage) -> list[str]:
    merged: Mapping[str, str] = {**image.environment, **workload.environment}
    return [f"{key}={value}" for key, value in sorted(merged.items())]


def _records(values: Sequence[str], instance_id: str) -> bytes:
    if any("\0" in value for value in values):
        raise Refusal(f"boot {instance_id}", "a NUL in a command or its environment", code="vmm_start_failed")
    return b"".join(value.encode() + b"\0" for value in values)


def _mounts(workload: Workload) -> bytes:
    lines = (
        f"{serial} {mount.path} {'ro' if mount.read_only else 'rw'}\n" for serial, mount in volume_serials(workload)
    )
    return "".join(lines).encode()


def volume_serials(workload: Workload) -> list[tuple[str, Mount]]:
    """The device name of each volume, in the order of the workload."""
    return [(f"vol{number}", mount) for number, mount in enumerate(workload.mounts)]


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o400
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
