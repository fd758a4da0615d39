"""Memory and CPU bounds of a machine's process. Used by `agent.starting` before a machine starts.

cgroup v2 where its controllers are at hand, the v1 `memory` and `cpu` hierarchies otherwise, nothing without the
rights: said once in the log. A group belongs to the node, not to the agent's service, so that stopping the service
leaves the machines alone.

    v2  ROOT/trueup-NODE/KEY     memory.max, memory.swap.max, cpu.weight
    v1  ROOT/{memory,cpu}/trueup-NODE/KEY
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path
from typing import Literal

from kit import logs
from kit.canonical import digest

ROOT = Path("/sys/fs/cgroup")  # not there inside `ip netns exec`, which mounts /sys anew; `nsenter --net=` leaves it
CPU_WEIGHT_PER_CORE = 100
CPU_SHARES_PER_CORE = 1024
CPU_WEIGHT_MAX = 10_000
CPU_SHARES_MAX = 262_144
REMOVE_TIMEOUT_S = 5.0
Version = Literal["v2", "v1", "none"]
_log = logs.get("cgroup")


class Cgroups:
    """`overhead_bytes`: what qemu itself may take above the guest's memory."""

    def __init__(self, node_key: str, overhead_bytes: int, root: Path = ROOT) -> None:
        self._root = root
        self._name = f"trueup-{node_key}"
        self._overhead_bytes = overhead_bytes
        self._why_not = ""
        self.version = self._find_version()
        if self.version == "none":
            _log.warning("no cgroups: the memory and CPU of machines are bounded by QEMU alone", why=self._why_not)

    async def ensure(self, instance_id: str, memory_bytes: int, cpu: float) -> tuple[Path, ...]:
        groups = self._groups(instance_id)
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
        limit = str(memory_bytes + self._overhead_bytes)
        if self.version == "v2":
            self._write(groups[0], "memory.max", limit)
            self._write(groups[0], "memory.swap.max", "0", must=False)
            self._write(groups[0], "cpu.weight", str(_within(round(cpu * CPU_WEIGHT_PER_CORE), 1, CPU_WEIGHT_MAX)))
        elif self.version == "v1":
            self._limit_v1(groups[0], limit)
            self._write(groups[1], "cpu.shares", str(_within(round(cpu * CPU_SHARES_PER_CORE), 2, CPU_SHARES_MAX)))
        return tuple(group / "cgroup.procs" for group in groups)

    async def observe(self, instance_id: str) -> int:
        file = {"v2": "memory.events", "v1": "memory.oom_control", "none": ""}[self.version]
        if not file:
            return 0
        try:
            text = (self._groups(instance_id)[0] / file).read_text()
        except OSError:
            return 0
        found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0

    async def remove(self, instance_id: str) -> None:
        for group in self._groups(instance_id):
            await _remove(group)

    async def tear_down(self) -> None:
        for parent in self._parents():
            for group in [each for each in parent.glob("*") if each.is_dir()]:
                await _remove(group)
            await _remove(parent)

    def _find_version(self) -> Version:
        if os.geteuid() != 0:
            self._why_not = "the agent is not root"
            return "none"
        try:
            if self._enable_v2():
                return "v2"
            for hierarchy in ("memory", "cpu"):
                (self._root / hierarchy / "tasks").stat()
                (self._root / hierarchy / self._name).mkdir(exist_ok=True)
        except OSError as error:
            self._why_not = str(error)
            return "none"
        return "v1"

    def _enable_v2(self) -> bool:
        controllers = self._root / "cgroup.controllers"
        if not controllers.exists() or not {"memory", "cpu"} <= set(controllers.read_text().split()):
            return False
        parent = self._root / self._name
        (self._root / "cgroup.subtree_control").write_text("+memory +cpu")
        parent.mkdir(exist_ok=True)
        (parent / "cgroup.subtree_control").write_text("+memory +cpu")
        return True

    def _limit_v1(self, group: Path, limit: str) -> None:
        # memory+swap may never be below memory: raising and lowering need opposite orders, so try both.
        for name in ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
            self._write(group, name, limit, must=name == "memory.limit_in_bytes")

    def _write(self, group: Path, name: str, value: str, *, must: bool = True) -> None:
        try:
            (group / name).write_text(value)
        except OSError:
            if must:
                raise

    def _groups(self, instance_id: str) -> tuple[Path, ...]:
        return tuple(parent / digest(instance_id, length=12) for parent in self._parents())

    def _parents(self) -> tuple[Path, ...]:
        if self.version == "v2":
            return (self._root / self._name,)
        if self.version == "v1":
            return (self._root / "memory" / self._name, self._root / "cpu" / self._name)
        return ()


async def _remove(group: Path) -> None:
    """The kernel lets a group go a moment after its last process."""
    deadline_s = time.monotonic() + REMOVE_TIMEOUT_S
    while group.exists():
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        if time.monotonic() > deadline_s:
            _log.warning("a cgroup cannot be removed", group=str(group))
            return
        await asyncio.sleep(0.05)


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))
