"""Real parts for tests of the edge: TLS backends with certificates of their own, clients, haproxy on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.core.config import Options
from edge.core.table import Route, RouteTable, Server, table_of
from edge.dataplane.answers import read_processes
from edge.dataplane.haproxy import HaproxyDataplane
from edge.dataplane.runtime import ask_master
from kit.clock import Clock, SystemClock

DEADLINE_S = 15.0
PROXY_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def free_port() -> int:
    """A port that nothing listens on, outside the range from which the kernel gives ports to clients."""
    for port in _ports:
        with socket.socket(socket.AF_INET6) as probe:
            with contextlib.suppress(OSError):
                probe.bind(("::", port))
                return port
    raise AssertionError("no free port")


_ports = iter(range(21000, 32000))


@contextmanager
def short_folder() -> Iterator[Path]:
    """Unix socket paths are short; pytest's own folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="te-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S) -> None:
    end = asyncio.get_running_loop().time() + deadline_s
    while not await condition():
        assert asyncio.get_running_loop().time() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.02)


@cache
def certificate(name: str) -> tuple[str, str]:
    """PEM of a self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_pem = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return signed.public_bytes(pem).decode(), key_pem.decode()


@dataclass
class Backend:
    """A server that answers every line with "NAME: LINE". With TLS when it has a hostname."""

    name: str
    hostname: str = ""
    expect_proxy: bool = False
    port: int = 0
    proxy_headers: list[bytes] = field(default_factory=list)
    after_proxy: list[bytes] = field(default_factory=list)
    connections: int = 0  # that said something
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> Backend:
        context = _server_context(self.hostname) if self.hostname and not self.expect_proxy else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port or free_port(), ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """As if the machine died: connections too."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    def server(self) -> Server:
        return Server(self.name, "127.0.0.1", self.port, self.expect_proxy)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.expect_proxy:
                head = await reader.readexactly(16)
                self.proxy_headers.append(head + await reader.readexactly(int.from_bytes(head[14:16], "big")))
                if self.hostname:  # what follows is TLS, which this backend only looks at
                    self.after_proxy.append(await reader.readexactly(3))
                    return
            first = True
            while line := await reader.readline():
                self.connections += first
                first = False
                writer.write(f"{self.name}: ".encode() + line)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


@cache
def _server_context(name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as handle:
        handle.write("".join(certificate(name)))
        handle.flush()
        context.load_cert_chain(handle.name)
    return context


def client_context(name: str) -> ssl.SSLContext:
    """Trusts only the certificate of `name`: a connection that ends elsewhere fails."""
    return ssl.create_default_context(cadata=certificate(name.lower())[0])


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, line: str = "hello") -> str:
        """The answer's line; empty when the connection is closed."""
        async with asyncio.timeout(DEADLINE_S):
            self._writer.write(f"{line}\n".encode())
            return (await self._reader.readline()).decode().rstrip("\n")

    async def who(self) -> str:
        return (await self.ask()).partition(":")[0]

    @property
    def local_port(self) -> int:
        return int(self._writer.get_extra_info("sockname")[1])

    def close(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def connected(port: int, hostname: str = "", *, address: str = "127.0.0.1") -> AsyncIterator[Client]:
    """With TLS when there is a hostname."""
    async with asyncio.timeout(DEADLINE_S):
        if hostname:
            pair = await asyncio.open_connection(address, port, ssl=client_context(hostname), server_hostname=hostname)
        else:
            pair = await asyncio.open_connection(address, port)
    client = Client(*pair)
    try:
        yield client
    finally:
        client.close()


async def who_answers(port: int, hostname: str = "", *, address: str = "127.0.0.1") -> str:
    """The name of the backend; empty when the connection is refused or closed."""
    try:
        async with connected(port, hostname, address=address) as client:
            return await client.who()
    except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
        return ""


def route(hostname: str, port: int, *backends: Backend, route_id: str = "") -> Route:
    servers = tuple(sorted(backend.server() for backend in backends))
    protocol = "tls_passthrough" if hostname else "tcp_raw"
    return Route(route_id or f"r/{hostname or port}", hostname, port, protocol, servers)  # type: ignore[arg-type]  # one of the two words


def table(*routes: Route) -> RouteTable:
    return table_of(routes)


def options(folder: Path, **changes: object) -> Options:
    given: dict[str, object] = {
        "listen_addresses": ("127.0.0.1", "::1"),
        "runtime_socket": str(folder / "worker.sock"),
        "hard_stop_s": 30,
        "connections_max": 500,
    }
    return Options(**(given | changes))  # type: ignore[arg-type]  # names and values of Options


def haproxy(
    folder: Path, clock: Clock | None = None, *, drain_bound_s: float = 600.0, **changes: object
) -> HaproxyDataplane:
    return HaproxyDataplane(folder, options(folder, **changes), clock or SystemClock(), drain_bound_s=drain_bound_s)


async def worker_pid(folder: Path) -> int:
    found = read_processes(await ask_master(folder / "master.sock", "show proc"))
    assert found is not None
    return found.worker


async def master_pid(folder: Path) -> int:
    found = read_processes(await ask_master(folder / "master.sock", "show proc"))
    assert found is not None
    return found.master
