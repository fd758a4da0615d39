"""Starting qemu as nobody's child, inside its cgroups, with its locks. Called by `driver.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from agent.drivers.vm import console, monitor, process
from agent.drivers.vm.command import Paths
from kit.errors import Transient

LAUNCH_TIMEOUT_S = 30.0
START_LOOK_S = 0.05
STDERR_CHARS_MAX = 800
# In a session of its own: enters the cgroups first, so that not one byte of the machine is allocated outside them, then
# leaves qemu behind as nobody's child. qemu's own -daemonize would forbid the stricter half of its sandbox.
LAUNCHER = """
errors=$1; groups=$2; shift 2
while [ "$groups" -gt 0 ]; do echo $$ >"$1" || exit 97; shift; groups=$((groups-1)); done
"$@" </dev/null >/dev/null 2>>"$errors" &
echo $!
"""


async def launch(
    attempted: str, command: list[str], paths: Paths, cgroup_files: Sequence[Path], inherited: list[int]
) -> int:
    """The process id of qemu, which is then on its own."""
    groups = [str(len(cgroup_files)), *map(str, cgroup_files)]
    launcher = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", LAUNCHER, "launcher", str(paths.errors), *groups, *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=inherited,
        start_new_session=True,
    )
    printed, errors = await launcher.communicate()
    if launcher.returncode != 0:
        said = errors.decode("utf-8", "replace").strip()[-STDERR_CHARS_MAX:]
        raise Transient(attempted, f"it could not be launched: {said}", code="vmm_start_failed")
    return int(printed)


async def await_qemu(attempted: str, identity: process.Identity, paths: Paths) -> None:
    """Until qemu has opened everything and answers, or has ended."""
    try:
        async with asyncio.timeout(LAUNCH_TIMEOUT_S):
            while process.lives(identity) and not await monitor.status(paths.monitor):  # noqa: ASYNC110  # of another process
                await asyncio.sleep(START_LOOK_S)
    except TimeoutError:
        process.kill(identity)
        why = f"qemu did not answer in {LAUNCH_TIMEOUT_S:.0f} s: {complaint(paths)}"
        raise Transient(attempted, why, code="vmm_start_failed") from None


def complaint(paths: Paths) -> str:
    return console.tail(paths.errors, STDERR_CHARS_MAX).decode("utf-8", "replace").strip() or "it said nothing"
