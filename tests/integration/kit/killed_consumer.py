"""A consumer of the change stream that is killed again and again: python -m tests.integration.kit.killed_consumer.

It appends the id of each event to FOLDER/effect, keeps its cursor in FOLDER/cursor, and kills itself (SIGKILL) at
points that follow from the seed: between lines, around every fsync and rename, and at any time. It is started anew
until the event LAST has come. Each kill is a line in the effect: killed and the cursor that the file has then.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kit.control_plane import ControlPlane
from kit.cursors import CursorFile
from kit.follow_changes import follow_changes
from kit.stream_batches import Changes
from tests.integration.kit.consumers import QUICK

LAST = "o/p/prod/site/volume/v999999"
KILLS_MAX = 25
CHANCE = 0.04


def main(url: str, token: str, folder: Path, seed: int) -> None:
    """Forks, because a new interpreter for each life would take half a second."""
    for life in range(KILLS_MAX + 1):
        child = os.fork()
        if child == 0:
            _live(url, token, folder, random.Random(f"{seed}.{life}"), mortal=life < KILLS_MAX)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        assert os.WTERMSIG(status) == signal.SIGKILL
        _mark(folder)


def _live(url: str, token: str, folder: Path, rng: random.Random, *, mortal: bool) -> None:
    try:
        if mortal:
            _arm(rng)
        asyncio.run(_consume(url, token, folder, rng, mortal=mortal))
        os._exit(0)
    except BaseException as error:  # the fork must never go on as its parent
        os.write(2, repr(error).encode())
        os._exit(1)


def _arm(rng: random.Random) -> None:
    """Death before or after each step that makes something durable."""

    def deadly(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            _perhaps_die(rng)
            result = step(*args)
            _perhaps_die(rng)
            return result

        return run

    os.fsync, os.write = deadly(os.fsync), deadly(os.write)
    Path.replace = deadly(Path.replace)  # type: ignore[method-assign]


def _perhaps_die(rng: random.Random) -> None:
    if rng.random() < CHANCE:
        os.kill(os.getpid(), signal.SIGKILL)


async def _consume(url: str, token: str, folder: Path, rng: random.Random, *, mortal: bool) -> None:
    stop, effect = asyncio.Event(), os.open(folder / "effect", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    if mortal:
        asyncio.get_running_loop().call_later(rng.uniform(0.01, 0.5), os.kill, os.getpid(), signal.SIGKILL)

    async def on_changes(changes: Changes) -> None:
        for event in changes.events:
            os.write(effect, b"%d\n" % event["event_id"])
            if event["aggregate_id"] == LAST:
                stop.set()
        os.fsync(effect)

    async with ControlPlane(url, token) as control_plane:
        store = CursorFile(folder / "cursor", {})
        await follow_changes(control_plane, {}, None, on_changes, store, stop, pace=QUICK)


def _mark(folder: Path) -> None:
    cursor = CursorFile(folder / "cursor", {}).read()
    with (folder / "effect").open("ab") as effect:
        effect.write(f"killed {cursor}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
