"""The haproxy process: a master with a worker, which lives on when the edge program ends. Used by `haproxy`.

    FOLDER/master.sock   the master's socket: show proc, reload
    FOLDER/worker.sock   the current worker's socket, admin level
    FOLDER/haproxy.pid   the master's pid
    FOLDER/haproxy.log   what both print; cut when it grows beyond LOG_BYTES_MAX

A process is ours when its master's socket answers, or when the pid file names a process with our command line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from edge.core.config import CONFIG_FILE
from edge.dataplane.answers import Processes, read_pid, read_processes
from edge.dataplane.runtime import ask_master, conversation
from kit import logs
from kit.errors import Refusal, Transient

START_TIMEOUT_S = 20.0
RELOAD_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 60.0
LOG_BYTES_MAX = 4 << 20
SOCKET_PATH_BYTES_MAX = 90  # haproxy binds PATH.PID.tmp first, and a unix socket's path has at most 107 bytes
_POLL_S = 0.02
T = TypeVar("T")
_log = logs.get("haproxy")


class Process:
    def __init__(self, folder: Path, *, program: str = "haproxy") -> None:
        self._folder = folder.resolve()
        self._program = program
        self._child: subprocess.Popen[bytes] | None = None
        self.master_socket = self._folder / "master.sock"
        self.worker_socket = self._folder / "worker.sock"
        self._log_file = self._folder / "haproxy.log"
        if len(bytes(self.worker_socket)) > SOCKET_PATH_BYTES_MAX:
            raise Refusal(
                f"use {self._folder} for haproxy's sockets",
                f"the path of a socket in it is longer than {SOCKET_PATH_BYTES_MAX} bytes",
                fix="choose a shorter --state",
                code="settings_invalid",
            )

    async def processes(self) -> Processes | None:
        """None when no master answers."""
        self._reap()
        try:
            return read_processes(await ask_master(self.master_socket, "show proc"))
        except Transient:
            return None

    async def running(self) -> Processes | None:
        """None when nothing runs. A process of ours that does not answer is a `Transient`: never start a second one."""
        found = await self.processes()
        if found is None and (pid := self._pid_of_ours()):
            found = await _until(self.processes, lambda p: p is not None or not self._pid_of_ours(), RELOAD_TIMEOUT_S)
            if found is None and self._pid_of_ours():
                why = f"process {pid} runs but does not answer on {self.master_socket}"
                fix = f"if this lasts, end process {pid}; the edge starts a new one"
                raise Transient("look at haproxy", why, fix=fix, code="dataplane_mute")
        return found

    async def check(self, version: Path) -> None:
        """A `Refusal` when haproxy would not accept the files: a bug of ours, or an option that it does not like."""
        command = [self._program, "-c", "-C", str(version), "-f", CONFIG_FILE]
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                _, complaint = await child.communicate()
        except (OSError, TimeoutError) as error:
            raise Transient("check haproxy's configuration", str(error), code="dataplane_check_failed") from error
        if child.returncode:
            why = complaint.decode(errors="replace").strip()[-2000:]
            raise Refusal("check haproxy's configuration", why, code="dataplane_config_invalid")

    async def start(self) -> None:
        """Returns when the new worker answers."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [self._program, "-W", "-S", f"{self.master_socket},mode,600", "-p", str(self._folder / "haproxy.pid")]
        command += ["-C", str(self._folder / "current"), "-f", CONFIG_FILE]
        start_at = self._log_size()
        with self._log_file.open("ab") as output:
            self._child = await asyncio.to_thread(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        child = self._child
        found = await _until(self._settled, lambda p: p is not None or child.poll() is not None, START_TIMEOUT_S)
        if found is None:
            why = self._said_since(start_at) or "it did not answer in time"
            raise Transient("start haproxy", why, code="dataplane_start_failed")
        _log.info("haproxy started", master=found.master, worker=found.worker)

    async def reload(self) -> None:
        """A new worker with the current files takes the listeners over; the old one ends with its connections. When the
        files are not accepted the old worker goes on, and this raises `Transient`."""
        before = await self.processes()
        if before is None:
            raise Transient("reload haproxy", "it does not run", code="dataplane_unreachable")
        start_at = self._log_size()
        await ask_master(self.master_socket, "reload")
        found = await _until(
            self._settled,
            lambda p: p is not None and p.reloads > before.reloads and (p.failed > 0 or p.worker != before.worker),
            RELOAD_TIMEOUT_S,
        )
        if found is None or found.failed or found.worker == before.worker:
            why = self._said_since(start_at) or "no new worker came up in time"
            raise Transient("reload haproxy", why, code="dataplane_reload_failed")
        _log.info("haproxy reloaded", master=found.master, worker=found.worker, reloads=found.reloads)

    async def stop(self) -> None:
        """Ends master and workers, connections included."""
        found = await self.processes()
        pid = found.master if found else self._pid_of_ours()
        if not pid:
            return
        os.kill(pid, signal.SIGTERM)
        if not await _until(self._gone(pid), bool, STOP_TIMEOUT_S):
            os.kill(pid, signal.SIGKILL)
            await _until(self._gone(pid), bool, STOP_TIMEOUT_S)
        _log.info("haproxy stopped", master=pid)

    def trim_log(self) -> None:
        """haproxy appends, so that cutting the file in place is safe."""
        if self._log_size() > LOG_BYTES_MAX:
            os.truncate(self._log_file, 0)

    async def _settled(self) -> Processes | None:
        """The processes, once the worker's socket belongs to the worker that the master calls current."""
        found = await self.processes()
        if found is None or not found.worker:
            return None
        try:
            async with conversation(self.worker_socket) as talk:
                return found if read_pid(await talk.ask("show info")) == found.worker else None
        except Transient:
            return None

    def _gone(self, pid: int) -> Callable[[], Awaitable[bool]]:
        async def gone() -> bool:
            self._reap()
            return not _lives(pid)

        return gone

    def _reap(self) -> None:
        if self._child is not None:
            self._child.poll()

    def _pid_of_ours(self) -> int:
        """The pid file's process, if it is a haproxy with our folder in its command line. Pids are used anew."""
        try:
            pid = int((self._folder / "haproxy.pid").read_text().split()[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            return 0
        return pid if str(self._folder / "current").encode() in command and _lives(pid) else 0

    def _log_size(self) -> int:
        return self._log_file.stat().st_size if self._log_file.exists() else 0

    def _said_since(self, offset: int) -> str:
        """The alerts that haproxy printed since then."""
        with self._log_file.open("rb") as handle:
            handle.seek(offset)
            lines = handle.read(65536).decode(errors="replace").splitlines()
        return "; ".join(line for line in lines if "[ALERT]" in line)[:2000]


def _lives(pid: int) -> bool:
    """A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


async def _until(probe: Callable[[], Awaitable[T]], done: Callable[[T], bool], timeout_s: float) -> T:
    """The first result that is `done`, or the last one when the time is over."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while not done(result := await probe()):
        if asyncio.get_running_loop().time() > deadline_s:
            break
        await asyncio.sleep(_POLL_S)
    return result
