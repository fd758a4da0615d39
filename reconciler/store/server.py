"""The embedded Postgres: one server in STATE/postgres, reached through a unix socket only.

Called by `reconciler.store.store` (and by the tests). It promises: after `start` a server runs on the folder, whether
it had to be made, was left behind by a killed controller, or belongs to another process of ours; a crash at any point
never blocks the next start. Several processes may share it: each holds a shared lock on STATE/postgres.lock, the last
one that closes stops the server, and the kernel frees the lock of one that was killed. Everything here blocks: run it
in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from kit.errors import Refusal, Transient
from reconciler.store import postmaster
from reconciler.store.limits import SERVER_START_TIMEOUT_S, SERVER_STOP_TIMEOUT_S, SOCKET_PATH_BYTES_MAX
from reconciler.store.postgres_binaries import Programs, find_programs, let_through

SUPERUSER = "postgres"

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "synchronous_commit": "on",
    "max_connections": "48",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "jit": "off",  # our statements are short; compiling them costs more than it gains
    "client_connection_check_interval": "5s",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgres-%a.log",  # one a day, each overwritten after a week
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_parameter_max_length_on_error": "0",  # no value of ours ever reaches the log
}


class EmbeddedServer:
    """`data` is the server's own folder; beside it lie the lock files and the output of the last start."""

    def __init__(self, data: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data = data.absolute()
        self._settings = {**SETTINGS, **(settings or {})}
        self._programs: Programs | None = None
        self._socket_folder = self.data
        self._child: subprocess.Popen[bytes] | None = None
        self._use_lock: int | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, when it runs."""
        found = postmaster.running(self.data)
        return found.pid if found else None

    def url(self, role: str, database: str) -> str:
        return f"postgresql://{quote(role)}@/{quote(database)}?host={quote(str(self._socket_folder), safe='')}"

    def start(self) -> None:
        """Joins the running server or starts one. Idempotent; also the way back after the server has died."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self._programs = find_programs(self.data)
        with self._start_lock():
            self._collect_child()
            self._make_data_folder(self._programs)
            found = postmaster.running(self.data)
            if found is None:
                self._wait_for_orphans()
                self._socket_folder = self._choose_socket_folder(self._programs)
                postmaster.remove_stale_locks(self.data, self._socket_folder)
                self._launch(self._programs)
            self._wait_until_ready()
            self._hold_use_lock()

    def close(self) -> None:
        """Stops the server, unless another process uses it."""
        if self._use_lock is None:
            return
        with self._start_lock():
            last = self._is_last_user()
            os.close(self._use_lock)
            self._use_lock = None
            if last:
                self._stop()

    def is_running(self) -> bool:
        self._collect_child()
        return postmaster.running(self.data) is not None

    # -- the folder ---------------------------------------------------------------------------------------------------

    def _make_data_folder(self, programs: Programs) -> None:
        version_file = self.data / "PG_VERSION"
        if version_file.exists():
            self._check_version(version_file.read_text().strip(), programs)
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.data.chmod(0o700)
        if programs.account is not None:
            let_through(self.data, programs.account)
            if self.data.stat().st_uid != programs.account.pw_uid:
                os.chown(self.data, programs.account.pw_uid, programs.account.pw_gid)
        if not version_file.exists():
            self._initialise(programs)

    def _check_version(self, found: str, programs: Programs) -> None:
        if found != str(programs.major):
            raise Refusal(
                f"start the embedded Postgres in {self.data}",
                f"the folder was made by Postgres {found}, trueup brings version {programs.major}",
                fix="upgrade it with pg_upgrade, or run a Postgres server of that version and give its URL",
                code="postgres_data_version",
            )

    def _initialise(self, programs: Programs) -> None:
        """initdb writes PG_VERSION early, so it works in a folder of its own, which is moved into place once whole."""
        unfinished = self.data / ".initdb"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._run(
            programs,
            [programs.path("initdb"), "-D", str(unfinished), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]
            + ["--locale=C", "--no-instructions"],
        )
        (unfinished / "PG_VERSION").rename(unfinished / "PG_VERSION.last")
        for entry in sorted(unfinished.iterdir(), key=lambda path: path.name == "PG_VERSION.last"):
            target = self.data / entry.name.removesuffix(".last")
            if target.is_dir():
                shutil.rmtree(target)
            entry.rename(target)
        unfinished.rmdir()

    def _choose_socket_folder(self, programs: Programs) -> Path:
        """The data folder, closed to others; when its path is too long for a socket, a closed folder elsewhere."""
        if len(os.fsencode(self.data / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES_MAX:
            return self.data
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        if programs.account is not None:
            base = Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
        folder = base / f"trueup-postgres-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]}"
        owner = programs.account.pw_uid if programs.account else os.geteuid()
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            os.chown(folder, owner, -1)
        status = folder.lstat()
        if not folder.is_dir() or folder.is_symlink() or status.st_uid != owner or status.st_mode & 0o077:
            raise Refusal(
                f"make the socket folder {folder}",
                f"it exists and is not a folder of user {owner} that is closed to others",
                fix="remove it, or use a state folder with a shorter path",
                code="postgres_socket_folder",
            )
        return folder

    # -- the process --------------------------------------------------------------------------------------------------

    def _launch(self, programs: Programs) -> None:
        command = [programs.path("postgres"), "-D", str(self.data), "-k", str(self._socket_folder)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with self._output_file.open("wb") as output:
            # A session of its own: the server outlives a controller that is killed, and no terminal's ^C reaches it.
            self._child = subprocess.Popen(  # type: ignore[call-overload]  # keyword arguments by name
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.data,
                start_new_session=True,
                **programs.popen_identity(),
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + SERVER_START_TIMEOUT_S
        while time.monotonic() < deadline:
            found = postmaster.running(self.data)
            if found is not None and found.ready:
                self._socket_folder = Path(found.socket_folder or self.data)
                return
            if self._collect_child():
                raise self._failed_to_start("the server ended")
            time.sleep(0.05)
        raise self._failed_to_start(f"it was not ready after {SERVER_START_TIMEOUT_S:.0f} s")

    def _wait_for_orphans(self) -> None:
        """After a killed postmaster its other processes need a moment to notice; until then the folder is in use."""
        deadline = time.monotonic() + SERVER_STOP_TIMEOUT_S
        while orphans := postmaster.processes(self.data):
            if time.monotonic() > deadline:
                pids = ", ".join(map(str, sorted(orphans)))
                raise self._failed_to_start(f"processes of a server that has died still use the folder: {pids}")
            time.sleep(0.05)

    def _see_orphans_out(self) -> None:
        """A killed postmaster leaves processes that still work on the folder; they end as soon as they notice."""
        deadline = time.monotonic() + SERVER_STOP_TIMEOUT_S
        while time.monotonic() < deadline and postmaster.processes(self.data):
            time.sleep(0.02)

    def _stop(self) -> None:
        """Fast shutdown: sessions are ended, everything is on disk; then the hard one, which costs a recovery."""
        for number in (signal.SIGINT, signal.SIGQUIT):
            found = postmaster.running(self.data)
            if found is None:
                break
            postmaster.signal_process(found.pid, number)
            deadline = time.monotonic() + SERVER_STOP_TIMEOUT_S
            while time.monotonic() < deadline and (self.is_running() or postmaster.processes(self.data)):
                time.sleep(0.02)  # the process that writes the server's log is the last to go
        self._see_orphans_out()
        self._collect_child()
        if self._socket_folder != self.data:
            with contextlib.suppress(OSError):
                self._socket_folder.rmdir()

    def _collect_child(self) -> bool:
        """Reaps our child if it ended, so that no zombie holds its pid. True when it ended by this call."""
        if self._child is None or self._child.poll() is None:
            return False
        self._child = None
        return True

    # -- locks and errors ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _start_lock(self) -> Iterator[None]:
        descriptor = os.open(self.data.with_name(f"{self.data.name}.start.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _hold_use_lock(self) -> None:
        if self._use_lock is None:
            path = self.data.with_name(f"{self.data.name}.lock")
            self._use_lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._use_lock, fcntl.LOCK_SH)

    def _is_last_user(self) -> bool:
        assert self._use_lock is not None
        try:
            fcntl.flock(self._use_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def _output_file(self) -> Path:
        return self.data.with_name(f"{self.data.name}.start.log")

    def _run(self, programs: Programs, command: list[str]) -> None:
        with self._output_file.open("wb") as output:
            result = subprocess.run(  # type: ignore[call-overload]  # keyword arguments by name
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.data,
                timeout=SERVER_START_TIMEOUT_S * 2,
                check=False,
                **programs.popen_identity(),
            )
        if result.returncode != 0:
            raise self._failed_to_start(f"{Path(command[0]).name} ended with {result.returncode}")

    def _failed_to_start(self, what: str) -> Transient:
        said = self._output_file.read_text(errors="replace")[-2000:] + _last_log(self.data)
        full = "No space left on device" in said
        return Transient(
            f"start the embedded Postgres in {self.data}",
            f"{what}. It said: {said.strip() or 'nothing'}",
            fix="free disk space" if full else f"read {self._output_file} and {self.data / 'log'}",
            code="disk_full" if full else "postgres_start_failed",
        )


def _last_log(data: Path) -> str:
    logs = sorted((data / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
    return logs[-1].read_text(errors="replace")[-2000:] if logs else ""
