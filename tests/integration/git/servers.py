"""Real servers of Git repositories on loopback: https by git's own http-backend, ssh by OpenSSH's sshd.

Each has what a test wants to see go wrong: it asks for a token, sends on to another port, stalls, or never ends.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import getpass
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

DEADLINE_S = 20.0
BODY_BYTES_MAX = 64 << 20
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class HttpsServer:
    """`token`: "" lets everybody in. `instead`: answers in the backend's place. `asked`: METHOD PATH of every request.
    `seen`: what came as Authorization, decoded."""

    root: Path
    ca_file: Path
    token: str = ""
    instead: Answer | None = None
    asked: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    port: int = 0

    def url(self, name: str) -> str:
        return f"https://localhost:{self.port}/{name}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        given = request.headers.get("Authorization", "")
        if given:
            self.seen.append(base64.b64decode(given.removeprefix("Basic ")).decode())
        if self.token and not (self.seen and given and self.seen[-1].partition(":")[2] == self.token):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        if self.instead is not None:
            return await self.instead(request)
        return await self._backend(request)

    async def _backend(self, request: web.Request) -> web.Response:
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(await request.read())
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=body)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate and key of localhost; it is its own authority."""
    certificate, key = folder / "localhost.pem", folder / "localhost.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    algorithm = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-days", "2", *algorithm, *subject, *files], check=True, capture_output=True
    )
    return certificate, key


@asynccontextmanager
async def https_server(root: Path, folder: Path, *, token: str = "") -> AsyncIterator[HttpsServer]:
    """Serves the repositories below `root`."""
    certificate, key = await asyncio.to_thread(make_certificate, folder)
    server = HttpsServer(root, certificate, token)
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_route("*", "/{path:.*}", server.handle)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


def make_key(path: Path) -> str:
    """An ssh key without a passphrase. Its public half, TYPE BASE64."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@dataclass
class SshServer:
    port: int
    host_key: str
    log: Path
    authorized: Path

    def url(self, path: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def ssh_server(folder: Path, *, forced_command: str = "") -> AsyncIterator[SshServer]:
    """sshd for the user that runs the tests, with keys of its own. `forced_command`: runs whatever is asked for."""
    folder.mkdir(parents=True)
    host_key = make_key(folder / "host_key")
    authorized = folder / "authorized_keys"
    authorized.touch(mode=0o600)
    port = _free_port()
    force = f"ForceCommand {forced_command}\n" if forced_command else ""
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {authorized}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nLogLevel VERBOSE\n{force}"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start without it
    program = "/usr/sbin/sshd"
    process = await asyncio.create_subprocess_exec(
        program, "-D", "-f", str(folder / "config"), "-E", str(folder / "log"), start_new_session=True
    )
    try:
        await _listening(port, process)
        yield SshServer(port, host_key, folder / "log", authorized)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), DEADLINE_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
    raise AssertionError("sshd ended")
