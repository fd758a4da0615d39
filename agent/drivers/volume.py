"""Volumes and private layers as sparse ext4 files. Used by `agent.starting` and `agent.volumes`.

    STATE/volumes/KEY/data.ext4   the data; KEY: digest of the volume's id
    STATE/volumes/KEY/lock        held by the process of the one machine that may have it open
    STATE/volumes/KEY/name        the volume's id, for people
    STATE/trash/KEY.N             deleted by a tombstone, on its way out
    STATE/layers/KEY.ext4         an instance's private layer; new at each start

The lock is inherited by the machine's process, so "one writer" holds whatever happens to the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import Literal

from agent.ports import Disk
from kit.canonical import digest
from kit.errors import Refusal, Transient
from kit.files import write_atomically
from kit.wire import PlannedVolume

TOOL_TIMEOUT_S = 120.0
ERROR_CHARS_MAX = 400
LAYER_BYTES_MIN = 8 << 20  # below this ext4 has no room for the overlay's folders


class Volumes:
    def __init__(self, state: Path) -> None:
        self._volumes = state / "volumes"
        self._trash = state / "trash"
        self._layers = state / "layers"

    async def observe(self, volume_id: str) -> Literal["absent", "available", "in_use"]:
        if not self._data(volume_id).exists():
            return "absent"
        lock = self._take_lock(volume_id)
        if lock is None:
            return "in_use"
        os.close(lock)
        return "available"

    async def ensure(self, volume: PlannedVolume) -> None:
        """Makes it, or grows it. A volume in use grows when it is free again."""
        data = self._data(volume.volume_id)
        if not data.exists():
            write_atomically(data.with_name("name"), volume.volume_id.encode() + b"\n")
            await _make_ext4(f"make volume {volume.volume_id}", data, volume.size_bytes)
        elif data.stat().st_size < volume.size_bytes:
            await self._grow(volume, data)

    async def attach(self, volume_id: str, serial: str, *, read_only: bool) -> Disk:
        attempted = f"attach volume {volume_id}"
        if not self._data(volume_id).exists():
            raise Transient(attempted, "it is not on this node", code="volume_attach_failed")
        lock = self._take_lock(volume_id)
        if lock is None:
            raise Transient(attempted, "another machine has it open", code="volume_attach_failed")
        return Disk(serial, self._data(volume_id), read_only, lock)

    async def remove(self, volume_id: str) -> None:
        folder = self._data(volume_id).parent
        if folder.exists():
            lock = self._take_lock(volume_id)
            if lock is None:
                raise Transient(f"delete volume {volume_id}", "a machine has it open", code="volume_attach_failed")
            try:
                self._trash.mkdir(parents=True, exist_ok=True)
                folder.rename(self._trash / f"{folder.name}.{os.urandom(4).hex()}")
            finally:
                os.close(lock)
        await asyncio.to_thread(shutil.rmtree, self._trash, ignore_errors=True)

    async def ensure_layer(self, instance_id: str, size_bytes: int) -> Disk:
        path = self._layer(instance_id)
        path.unlink(missing_ok=True)
        await _make_ext4(f"make the layer of {instance_id}", path, max(size_bytes, LAYER_BYTES_MIN), journal=False)
        return Disk("layer", path)

    async def remove_layer(self, instance_id: str) -> None:
        self._layer(instance_id).unlink(missing_ok=True)

    async def _grow(self, volume: PlannedVolume, data: Path) -> None:
        attempted = f"grow volume {volume.volume_id}"
        lock = self._take_lock(volume.volume_id)
        if lock is None:
            raise Transient(attempted, "a machine has it open", code="volume_attach_failed")
        try:
            os.truncate(data, volume.size_bytes)
            await _run(attempted, "e2fsck", "-f", "-p", str(data), good=(0, 1))
            await _run(attempted, "resize2fs", str(data))
        finally:
            os.close(lock)

    def _take_lock(self, volume_id: str) -> int | None:
        descriptor = os.open(self._data(volume_id).with_name("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _data(self, volume_id: str) -> Path:
        return self._volumes / digest(volume_id, length=16) / "data.ext4"

    def _layer(self, instance_id: str) -> Path:
        return self._layers / f"{digest(instance_id, length=12)}.ext4"


async def _make_ext4(attempted: str, path: Path, size_bytes: int, *, journal: bool = True) -> None:
    """Under another name first: a file with the right name is a whole file system. The guest hides
    lost+found, because a database wants its folder empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with temporary.open("wb") as handle:
        os.truncate(handle.fileno(), size_bytes)
    features = () if journal else ("-O", "^has_journal")
    await _run(
        attempted,
        "mkfs.ext4",
        "-q",
        "-F",
        "-m",
        "0",
        "-E",
        "lazy_itable_init=1,nodiscard,root_owner=0:0",
        *features,
        str(temporary),
    )
    temporary.chmod(0o600)
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)


async def _run(attempted: str, *command: str, good: tuple[int, ...] = (0,)) -> None:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        tool = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment
        )
    except FileNotFoundError as error:
        fix = f"install the package that has {command[0]} (e2fsprogs)"
        raise Refusal(attempted, f"{command[0]} is not installed", fix=fix, code="volume_attach_failed") from error
    try:
        async with asyncio.timeout(TOOL_TIMEOUT_S):
            _, errors = await tool.communicate()
    except (TimeoutError, asyncio.CancelledError) as error:
        with contextlib.suppress(ProcessLookupError):
            tool.kill()
        await tool.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        why = f"{command[0]} did not end in {TOOL_TIMEOUT_S:.0f} s"
        raise Transient(attempted, why, code="volume_attach_failed") from None
    if tool.returncode not in good:
        why = (
            f"{command[0]} ended with {tool.returncode}: {errors.decode('utf-8', 'replace').strip()[-ERROR_CHARS_MAX:]}"
        )
        raise Transient(attempted, why, code="volume_attach_failed")
