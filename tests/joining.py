"""Machines that join a real controller as real ones do, for tests that play an agent or an edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kit.control_plane import ControlPlane
from kit.joining import join_fleet
from kit.machine_identity import MachineIdentity
from kit.machine_names import MachineKind


def told(state: Path, name: str) -> str:
    """What the controller of that state folder published there."""
    return (state / name).read_text().strip()


async def join_token(state: Path, kind: MachineKind, name: str) -> str:
    async with ControlPlane(told(state, "controller.url"), told(state, "operator.token")) as operator:
        return str((await operator.post_json(f"/v1/{kind}s/{name}/token", {}))["token"])


async def joined_machine(state: Path, kind: MachineKind, name: str, folder: Path | None = None) -> MachineIdentity:
    """Joins, unless it has before. `folder`: of its key; beside the state folder when none is named."""
    machine = MachineIdentity(folder or state.parent / f"{kind}-{name}", kind, name)
    if not machine.exists:
        await join_fleet(machine, told(state, "machines.url"), await join_token(state, kind, name))
    return machine


@asynccontextmanager
async def as_machine(state: Path, kind: MachineKind, name: str) -> AsyncIterator[ControlPlane]:
    machine = await joined_machine(state, kind, name)
    async with ControlPlane(told(state, "machines.url"), identity=machine) as control_plane:
        yield control_plane
