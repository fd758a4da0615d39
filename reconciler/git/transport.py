"""The `git` program, run to carry objects into a bare clone (`clone`, `pull_clone`) and to merge trees (`pull_clone`).

It runs with fixed options and an environment of our own: no user's or system's configuration, no hooks, no prompts, no
redirects, no submodules, no background maintenance, only the transports file, https and ssh. Time, the size of what
may be written, and what is kept of its messages are bounded; on a time-out its whole process group is killed.
Credentials and whom to trust are files that `access` writes; ssh checks host keys and never asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Collection, Mapping, Sequence

from kit.errors import Transient
from reconciler.git.access import AccessFiles

FETCH_TIMEOUT_S = 120.0
PACK_BYTES_MAX = 4 << 30
MEMORY_BYTES_MAX = 1 << 30
STDERR_BYTES_MAX = 16 * 1024
OUTPUT_BYTES_MAX = 64 * 1024
_PASSED_ON = ("PATH", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE")
_CREDENTIALS = "STATE/git/credentials"
_OTHER_KEY = "the host shows another key than the pinned one: somebody may be in between"
_REDIRECT = "the server sends on to another address, and redirects are not followed"
_TOO_LARGE = "what the repository sends is larger than the bound"
_EXPLAINED = (
    ("couldn't find remote ref", "the branch is not there", "look at the branch's name; nothing is deleted meanwhile"),
    ("does not appear to be a git repository", "there is no Git repository at the address", "look at the address"),
    ("does not exist", "there is no Git repository at the address", "look at the address"),
    ("HOST IDENTIFICATION HAS CHANGED", _OTHER_KEY, "find out why before you change the pinned host key"),
    ("Host key verification failed", "the host's key is not known", "pin it: host_keys or known_hosts_file"),
    ("could not read Username", "the server asks for credentials", f"give the source a token_file, or {_CREDENTIALS}"),
    ("Authentication failed", "the server does not accept the credentials", f"renew the token_file, or {_CREDENTIALS}"),
    ("UNPROTECTED PRIVATE KEY FILE", "others may read the ssh key, so ssh does not use it", "chmod 600 the key file"),
    ("Permission denied", "the server does not accept the key", "give the source's ssh key read access"),
    ("unable to update url base from redirection", _REDIRECT, "give the source the address that it redirects to"),
    ("returned error: 30", _REDIRECT, "give the source the address that it redirects to"),
    ("certificate", "the server's certificate is not trusted", "give the source the ca_file that signed it"),
    ("File too large", _TOO_LARGE, "use a smaller repository, or raise fetch_bytes_max"),
    ("died of signal 25", _TOO_LARGE, "use a smaller repository, or raise fetch_bytes_max"),
    ("invalid index-pack output", f"{_TOO_LARGE}, or broken", "use a smaller repository, or raise fetch_bytes_max"),
)


class GitProgram:
    """With what `files` say about the source."""

    def __init__(self, files: AccessFiles) -> None:
        self._files = files

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
        environment = await asyncio.to_thread(self._environment)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
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
        passed_on = (*_PASSED_ON, "SSH_AUTH_SOCK") if self._files.uses_agent else _PASSED_ON
        kept = {name: os.environ[name] for name in passed_on if name in os.environ}
        return kept | {
            **self._files.write(),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "file:https:ssh",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
        }


def _bounded(command: list[str], file_bytes_max: int, memory_bytes_max: int = 0) -> list[str]:
    """With a bound on the files that it writes, so that an endless pack ends."""
    if not shutil.which("prlimit"):
        return command
    memory = [f"--data={memory_bytes_max}"] if memory_bytes_max else []
    return ["prlimit", f"--fsize={file_bytes_max}", *memory, *command]


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
