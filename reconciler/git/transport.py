"""The `git` program, run to carry objects into a bare clone (`clone`, `pull_clone`) and to merge trees (`pull_clone`).

It runs with fixed options and an environment of our own: no user's or system's configuration, no hooks, no prompts, no
redirects, no submodules, no background maintenance, only the transports file, https and ssh. Time, the size of what
may be written, and what is kept of its messages are bounded; on a time-out its whole process group is killed.
Credentials, if any, come from STATE/git/credentials (git's own store format); ssh checks host keys and never asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from kit.errors import Transient
from kit.files import write_atomically

FETCH_TIMEOUT_S = 120.0
PACK_BYTES_MAX = 4 << 30
MEMORY_BYTES_MAX = 1 << 30
STDERR_BYTES_MAX = 16 * 1024
OUTPUT_BYTES_MAX = 64 * 1024
_PASSED_ON = ("PATH", "SSH_AUTH_SOCK", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE")
_SSH = (
    "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=15"
    " -o ForwardAgent=no -o ClearAllForwardings=yes"
)

_OPTIONS = {
    "protocol.allow": "never",
    "protocol.file.allow": "always",
    "protocol.https.allow": "always",
    "protocol.ssh.allow": "always",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "fetch.writeCommitGraph": "false",
    "safe.directory": "*",
    "advice.detachedHead": "false",
}
"""safe.directory: the operator named the repository; nothing in it is executed, and only its objects are read."""

_EXPLAINED = (
    ("couldn't find remote ref", "the branch is not there", "look at the branch's name; nothing is deleted meanwhile"),
    ("does not appear to be a git repository", "there is no Git repository at the address", "look at the address"),
    ("does not exist", "there is no Git repository at the address", "look at the address"),
    ("Host key verification failed", "the host's key is not known", "add it to known_hosts"),
    ("could not read Username", "the server asks for credentials", "put them into STATE/git/credentials"),
    ("Authentication failed", "the server does not accept the credentials", "renew STATE/git/credentials"),
    ("Permission denied", "the server does not accept the key", "give this machine's key read access"),
    ("File too large", "the repository's pack is larger than the bound", "use a smaller repository"),
)


class GitProgram:
    """`folder`: STATE/git, where configuration and credentials are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "config"

    def prepare(self) -> None:
        """Writes the configuration file that replaces the user's. Before the first call of `run`."""
        options = dict(_OPTIONS)
        credentials = self._folder / "credentials"
        if credentials.exists():
            options["credential.helper"] = f"store --file={credentials}"
        write_atomically(self._config, _config_text(options).encode())

    async def run(
        self,
        attempted: str,
        arguments: Sequence[str],
        *,
        timeout_s: float = FETCH_TIMEOUT_S,
        pack_bytes_max: int = PACK_BYTES_MAX,
    ) -> None:
        """Returns when git succeeded, else raises a `Transient` ("source_unreadable") in plain words."""
        code, _, said = await self._execute(attempted, _bounded(["git", *arguments], pack_bytes_max), timeout_s)
        if code != 0:
            why, fix = _explain(said)
            raise Transient(attempted, why, fix=fix, code="source_unreadable")

    async def ask(
        self, attempted: str, arguments: Sequence[str], *, codes: Collection[int], timeout_s: float
    ) -> tuple[int, str]:
        """The exit code, one of `codes`, and the first OUTPUT_BYTES_MAX of what git printed. For what computes: with a
        bound on its memory."""
        command = _bounded(["git", *arguments], PACK_BYTES_MAX, MEMORY_BYTES_MAX)
        code, output, said = await self._execute(attempted, command, timeout_s)
        if code not in codes:
            why, fix = _explain(said)
            raise Transient(attempted, why, fix=fix, code="source_unreadable")
        return code, output

    async def _execute(self, attempted: str, command: Sequence[str], timeout_s: float) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(),
            start_new_session=True,
        )
        assert process.stdout and process.stderr
        try:
            async with asyncio.timeout(timeout_s):
                output, said = await asyncio.gather(_read_head(process.stdout), _read_tail(process.stderr))
                code = await process.wait()
        except TimeoutError:
            await _kill(process)
            why = f"it took longer than {timeout_s:g} s"
            raise Transient(attempted, why, fix="look at the network", code="source_unreadable") from None
        except BaseException:
            await _kill(process)
            raise
        return code, output, said

    def _environment(self) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return kept | {
            "HOME": str(self._folder),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self._config),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "file:https:ssh",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_SSH_COMMAND": _SSH,
        }


def _bounded(command: list[str], file_bytes_max: int, memory_bytes_max: int = 0) -> list[str]:
    """With a bound on the files that it writes, so that an endless pack ends."""
    if not shutil.which("prlimit"):
        return command
    memory = [f"--data={memory_bytes_max}"] if memory_bytes_max else []
    return ["prlimit", f"--fsize={file_bytes_max}", *memory, *command]


def _config_text(options: Mapping[str, str]) -> str:
    lines = []
    for name, value in sorted(options.items()):
        section, _, key = name.rpartition(".")
        head, _, sub = section.partition(".")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'[{head} "{sub}"]' if sub else f"[{head}]")
        lines.append(f'\t{key} = "{quoted}"')
    return "\n".join(lines) + "\n"


async def _read_head(stream: asyncio.StreamReader) -> str:
    head = b""
    while chunk := await stream.read(4096):
        head += chunk[: OUTPUT_BYTES_MAX - len(head)]
    return head.decode("utf-8", "replace")


async def _read_tail(stream: asyncio.StreamReader) -> str:
    tail = b""
    while chunk := await stream.read(4096):
        tail = (tail + chunk)[-STDERR_BYTES_MAX:]
    return tail.decode("utf-8", "replace")


async def _kill(process: asyncio.subprocess.Process) -> None:
    """The whole group: git starts ssh and others, and they would outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _explain(said: str) -> tuple[str, str]:
    for sign, why, fix in _EXPLAINED:
        if sign in said:
            return why, fix
    lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:", "remote:"))]
    text = " ".join(lines[-3:]) or "git failed without a word"
    safe = re.sub(r"://[^/@\s]*@", "://", text)
    return "".join(letter if letter.isprintable() else " " for letter in safe)[
        :400
    ], "look at the address and the network"
