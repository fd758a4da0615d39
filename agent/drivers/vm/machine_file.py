"""What is on disk of a machine: STATE/vm/KEY.json. Used by `driver.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from agent.drivers.vm import process
from kit import logs
from kit.canonical import digest
from kit.codec import from_json
from kit.errors import TrueupError

_log = logs.get("vm")


@dataclass(frozen=True, slots=True)
class MachineFile:
    """What is on disk of a machine. `pid` 0: a start was intended, its process is not known."""

    instance_id: str
    epoch: int
    host_boot_id: str = ""
    pid: int = 0
    start_ticks: int = 0

    @property
    def identity(self) -> process.Identity | None:
        return process.Identity(self.host_boot_id, self.pid, self.start_ticks) if self.pid else None

    @property
    def boot_id(self) -> str:
        """Names this one life of the machine."""
        return digest([self.instance_id, self.epoch, self.host_boot_id, self.pid, self.start_ticks], length=16)


def read_machine_file(path: Path) -> MachineFile | None:
    """None if there is none, or a damaged one, which is put aside: a machine that lives is found by its name."""
    try:
        return from_json(MachineFile, json.loads(path.read_bytes()), where=str(path))
    except FileNotFoundError:
        return None
    except (ValueError, TrueupError) as error:
        _log.error("a machine's file is damaged and was put aside", path=str(path), why=str(error))
        path.replace(path.with_suffix(".damaged"))
        return None
