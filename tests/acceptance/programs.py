"""Programs that the demo starts: their output goes to a file, their end is seen, they are stopped by their own pid.

Each has a session of its own, so that Ctrl-C reaches the demo alone, which then stops them in their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

STOP_TIMEOUT_S = 30.0
SHOW_TIMEOUT_S = 60.0
STYLES = re.compile(r"\x1b\[[0-9;]*m")


class ProgramFailed(Exception):
    """A program ended with an error, or did not end in time."""


class Program:
    """One long-running program. It may be stopped and started again; its log grows."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._environ = {**os.environ, **(environ or {})}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environ,
                start_new_session=True,
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and waits; kills after STOP_TIMEOUT_S. The exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(number)
        try:
            return await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise ProgramFailed(f"{self.name} did not stop within {STOP_TIMEOUT_S:.0f} s\n{self.tail()}") from None

    def tail(self, lines: int = 25) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- last lines of {self.name} ({self.log})\n" + "\n".join(text.splitlines()[-lines:])


async def call(command: Sequence[str], *, timeout_s: float = 60.0, stdin: bytes = b"", ok: Sequence[int] = (0,)) -> str:
    """Runs a short program; its standard output. `ok`: the exit codes that are not a failure."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin), timeout_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ProgramFailed(f"{' '.join(command)}: no end within {timeout_s:.0f} s") from None
    if process.returncode not in ok:
        raise ProgramFailed(f"{' '.join(command)}: exit {process.returncode}\n{err.decode()}{out.decode()}")
    return out.decode()


async def show(command: Sequence[str], width: int) -> str:
    """What a short program prints on a terminal of that width, without colours."""
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0, closefd=True) as screen:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        environ = {**os.environ, "TERM": "xterm", "COLUMNS": str(width)}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
            )
        finally:
            os.close(theirs)
        printed = await asyncio.wait_for(asyncio.to_thread(_until_closed, screen), SHOW_TIMEOUT_S)
        if code := await process.wait():
            raise ProgramFailed(f"{' '.join(command)}: exit {code}\n{printed}")
    return printed


def _until_closed(screen: BinaryIO) -> str:
    """A terminal whose other end is closed answers with an error, not with an end of file."""
    printed = b""
    with contextlib.suppress(OSError):
        while piece := screen.read(65536):
            printed += piece
    return STYLES.sub("", printed.decode(errors="replace")).replace("\r\n", "\n")
