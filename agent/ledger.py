"""What the agent remembers, on disk. Used by `agent.loop` and the actors.

    STATE/ledger/plan.json            the plan that counts, and the logs that were left
    STATE/ledger/instances/KEY.json   one InstanceRecord each
    STATE/ledger/volumes/KEY.json     one VolumeRecord each

A file is written whole or not at all. One that cannot be read is put aside (.damaged) and said in the log; it costs the
memory of that one thing, never the agent: what lives is found again by looking.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from agent.core.converge import Ledger
from agent.core.model import InstanceRecord, VolumeRecord, after_host_reboot
from agent.core.plans import AppliedPlan
from kit import logs
from kit.canonical import digest
from kit.codec import from_json, to_json
from kit.errors import TrueupError
from kit.files import write_json

T = TypeVar("T")
_log = logs.get("ledger")


class LedgerFiles:
    """`instances` and `volumes` are what the files hold. Change them only through `save_...` and `forget_...`."""

    def __init__(self, state: Path, host_boot_id: str) -> None:
        self._folder = state / "ledger"
        self.host_boot_id = host_boot_id
        self.applied = _read(AppliedPlan, self._folder / "plan.json")
        self.instances = {
            record.instance_id: after_host_reboot(record, host_boot_id)
            for record in self._read_all(InstanceRecord, "instances")
        }
        self.volumes = {record.planned.volume_id: record for record in self._read_all(VolumeRecord, "volumes")}

    def view(self) -> Ledger:
        return Ledger(self.instances, self.volumes)

    def apply(self, applied: AppliedPlan) -> None:
        write_json(self._folder / "plan.json", to_json(applied))
        self.applied = applied

    def save_instance(self, record: InstanceRecord) -> None:
        if self.instances.get(record.instance_id) != record:
            write_json(self._file("instances", record.instance_id), to_json(record))
            self.instances[record.instance_id] = record

    def save_volume(self, record: VolumeRecord) -> None:
        if self.volumes.get(record.planned.volume_id) != record:
            write_json(self._file("volumes", record.planned.volume_id), to_json(record))
            self.volumes[record.planned.volume_id] = record

    def forget_instance(self, instance_id: str) -> None:
        self._file("instances", instance_id).unlink(missing_ok=True)
        self.instances.pop(instance_id, None)

    def forget_volume(self, volume_id: str) -> None:
        self._file("volumes", volume_id).unlink(missing_ok=True)
        self.volumes.pop(volume_id, None)

    def _read_all(self, cls: type[T], folder: str) -> list[T]:
        paths = sorted((self._folder / folder).glob("*.json"))
        return [record for path in paths if (record := _read(cls, path)) is not None]

    def _file(self, folder: str, key: str) -> Path:
        return self._folder / folder / f"{digest(key, length=16)}.json"


def _read(cls: type[T], path: Path) -> T | None:
    try:
        return from_json(cls, json.loads(path.read_bytes()), where=str(path))
    except FileNotFoundError:
        return None
    except (ValueError, TrueupError) as error:
        _log.error("a record is damaged and was put aside; the others are not touched", path=str(path), why=str(error))
        path.replace(path.with_suffix(".damaged"))
        return None
