"""The frame of a long-running program: logs, signals, exit codes. Used by the mains of controller, agent and edge.

SIGTERM and SIGINT set the stop event once; the program drains and returns. A second signal ends it at once.
What it starts (haproxy, nft, mkfs) is found in the system's folders too, which Debian leaves off most users' PATH.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from kit.errors import TrueupError

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
EXIT_OK = 0
EXIT_GENERIC = 1
EXIT_USAGE = 2
EXIT_TRANSIENT = 6
EXIT_INTERNAL = 7


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Runs `main(stop)` to its end and returns the exit code."""
    os.environ["PATH"] = with_system_folders(os.environ.get("PATH", ""))
    try:
        asyncio.run(_with_signals(main))
    except TrueupError as error:
        sys.stderr.write(f"error: {error}\n")
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    return EXIT_OK


def with_system_folders(path: str) -> str:
    """A PATH that names them too, behind what it had."""
    named = path.split(os.pathsep) if path else [os.defpath]
    return os.pathsep.join((*named, *(folder for folder in SYSTEM_FOLDERS if folder not in named)))


def exit_code(error: TrueupError) -> int:
    if error.code in ("settings_invalid", "usage"):
        return EXIT_USAGE
    return EXIT_TRANSIENT if error.retryable else EXIT_GENERIC


async def _with_signals(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            loop.remove_signal_handler(number)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await main(stop)


async def until_one_ends(*parts: Coroutine[Any, Any, object]) -> None:
    """Runs the parts beside each other until one ends; raises what ended it, and cancels the others to their end."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
