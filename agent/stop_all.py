"""Stops every machine of a state folder and removes what was made for them. Called by `agent.__main__`, for operators
and for the end of a demonstration; the agent itself must not run. Volumes, images and the node's identity stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from agent.actors import STOP_GRACE_S
from agent.drivers.cgroup import Cgroups
from agent.drivers.network import BridgeNetwork
from agent.drivers.vm import QemuMachines
from agent.drivers.vm.process import host_boot_id
from agent.drivers.volume import Volumes
from agent.ledger import LedgerFiles
from agent.ports import GuestFiles
from agent.settings import Settings
from agent.state_folder import node_key, only_one, read_node_file
from kit import logs
from kit.errors import Transient

LOCK_TIMEOUT_S = 10.0
PATIENCE_S = 5.0
_log = logs.get("agent")


async def stop_all(settings: Settings) -> None:
    """Stops every machine of the state folder, and removes its bridge, taps and cgroups. Volumes stay."""
    state = settings.state.resolve()
    known = read_node_file(state)
    with only_one(state, LOCK_TIMEOUT_S):
        _forget_unfinished(state)
        run_folder = Path(known.run) if known else settings.run_folder()
        nothing = GuestFiles(Path(), Path())
        machines = QemuMachines(state, run_folder, nothing, "tcg", lambda _: None)
        volumes = Volumes(state)
        try:
            for instance_id in await machines.known():
                await _end_machine(machines, instance_id)
                await volumes.remove_layer(instance_id)
        finally:
            await machines.close()
        await Cgroups(node_key(state), 0).tear_down()
        if known and known.network == "bridge" and os.geteuid() == 0:
            await BridgeNetwork(node_key(state), known.subnet).tear_down()
        _remove_run_folder(run_folder)
        _log.info("all machines of this node are stopped", state=str(state))


def _remove_run_folder(run_folder: Path) -> None:
    """Only what is ours: an operator may have named a folder that has other things."""
    shutil.rmtree(run_folder / "sealed", ignore_errors=True)
    with contextlib.suppress(OSError):
        run_folder.rmdir()


def _forget_unfinished(state: Path) -> None:
    """So that a later agent starts what its plan wants, and does not take the stop for a crash."""
    ledger = LedgerFiles(state, host_boot_id())
    for record in list(ledger.instances.values()):
        if record.phase != "ended":
            ledger.forget_instance(record.instance_id)


async def _end_machine(machines: QemuMachines, instance_id: str) -> None:
    with contextlib.suppress(Transient, TimeoutError):
        await machines.ask_to_stop(instance_id, STOP_GRACE_S)
        async with asyncio.timeout(STOP_GRACE_S + PATIENCE_S):
            while (await machines.observe(instance_id)).presence != "absent":  # noqa: ASYNC110  # of another process
                await asyncio.sleep(0.1)
    await machines.kill(instance_id)
    await machines.remove(instance_id)
    _log.info("machine stopped", instance_id=instance_id)
