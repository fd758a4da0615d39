"""One living machine that the agent holds on to: its process is watched, its guest is heard.

Made by `driver.py` at a start and at an adoption alike; nothing here disturbs the machine, and closing it leaves the
machine as it is. `gone` is set when the process has ended and its guest's last line was read.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agent.drivers.vm import monitor
from agent.drivers.vm.channel import PING, Conversation
from agent.drivers.vm.command import Paths
from agent.drivers.vm.process import Identity
from kit import logs

RECONNECT_S = 0.2
LAST_LINES_S = 1.0  # from the process's end until its socket must have been read empty
POWER_OFF_S = 30.0
PING_AGAIN_S = 0.5
PING_SLOWLY_S = 5.0
READ_BYTES = 4096
_log = logs.get("vm")


class Attached:
    """`on_change` is called without arguments whenever something new is known."""

    def __init__(self, identity: Identity, pidfd: int, paths: Paths, on_change: Callable[[], None]) -> None:
        self.identity = identity
        self.guest = Conversation()
        self.gone = asyncio.Event()
        self._pidfd = pidfd
        self._paths = paths
        self._on_change = on_change
        self._exited = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._heard = False
        asyncio.get_running_loop().add_reader(pidfd, self._process_ended)
        self._tasks = [asyncio.create_task(self._converse()), asyncio.create_task(self._await_end())]

    def hand_over(self, archive: bytes) -> None:
        """Gives the archive to the guest as soon as it asks, or now if it already has."""
        if self.guest.state not in ("silent", "waiting"):
            return
        self.guest.archive = archive
        if self.guest.state == "waiting":
            self.say(PING)  # a waiting guest answers it with HELLO

    def say(self, line: bytes) -> bool:
        """False if there is no connection now."""
        if self._writer is None:
            return False
        self._writer.write(line)
        return True

    async def say_surely(self, line: bytes, timeout_s: float) -> bool:
        """Waits for a connection first. False if there was none in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.say(line):
                    if self._exited.is_set():
                        return False
                    await asyncio.sleep(RECONNECT_S / 2)
                return True
        return False

    async def look_closer(self) -> None:
        """Asks QEMU itself about an adopted machine; what is odd goes to the log."""
        status = await monitor.status(self._paths.monitor)
        if status != "running" and not self._exited.is_set():
            _log.warning("an adopted machine is not running as it should", pid=self.identity.pid, status=status)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def close(self) -> None:
        """Lets go. The machine is left as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._release()

    def _release(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _process_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        with suppress(ChildProcessError):  # only an agent that is its container's first process has to bury it
            os.waitpid(self.identity.pid, os.WNOHANG)
        self._exited.set()

    async def _await_end(self) -> None:
        await self._exited.wait()
        await asyncio.wait(self._tasks[:1], timeout=LAST_LINES_S)
        self._tasks[0].cancel()
        self._release()
        self.guest.archive = None
        self.gone.set()
        self._on_change()

    def _guest_changed(self) -> None:
        if self.guest.state == "ended":  # it unmounts and powers off now; one that hangs in that is ended
            asyncio.get_running_loop().call_later(POWER_OFF_S, self.kill)
        self._on_change()

    async def _converse(self) -> None:
        while not self._exited.is_set():
            with suppress(OSError):
                await self._one_connection(self._paths.channel)
            if not self._exited.is_set():
                await asyncio.sleep(RECONNECT_S)

    async def _one_connection(self, path: Path) -> None:
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_unix_connection(str(path))
        self.guest.begin_anew()
        self._writer = writer
        self._heard = False
        pings = asyncio.create_task(self._ping(writer))
        try:
            while chunk := await reader.read(READ_BYTES):
                self._heard = True
                before = (self.guest.state, self.guest.last_words)
                writer.write(self.guest.hear(chunk, loop.time()))
                await writer.drain()
                if before != (self.guest.state, self.guest.last_words):
                    self._guest_changed()
        finally:
            self._writer = None
            pings.cancel()
            writer.close()

    async def _ping(self, writer: asyncio.StreamWriter) -> None:
        """Until the guest has answered on this connection and said that its process runs. What it says right after a
        connection changes hands may be lost: its kernel still takes us for away."""
        while not writer.is_closing() and not (self._heard and self.guest.state in ("started", "ended")):
            writer.write(PING)
            await asyncio.sleep(PING_SLOWLY_S if self._heard else PING_AGAIN_S)
