"""Guest files, the demo's images as squashfs, a certificate; all kept in .cache between runs."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.drivers.image import ImageStore
from agent.guest.build import build
from agent.ports import GuestFiles, RootImage
from tests.acceptance.images import build_images
from tests.acceptance.registry import Registry
from tests.integration.guest.machine import Machine

CACHE = Path(__file__).resolve().parents[3] / ".cache"
HOSTNAME = "site.test"
StartMachine = Callable[..., Awaitable[Machine]]


@pytest.fixture(scope="session")
def guest_files() -> GuestFiles:
    return build(CACHE / "guest")


@pytest.fixture(scope="session")
def root_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RootImage]:
    """The demo's images as the agent has them: pushed to a registry, pulled by digest, packed."""
    folder = tmp_path_factory.mktemp("registry")
    registry = Registry(folder / "registry")
    registry.start()

    async def pull() -> dict[str, RootImage]:
        store = ImageStore(folder / "state", insecure_registries=(registry.address,))
        layouts = build_images(CACHE / "images")
        return {name: await store.ensure(registry.push(layout, "demo")) for name, layout in layouts.items()}

    try:
        return asyncio.run(pull())
    finally:
        registry.stop()


@pytest_asyncio.fixture
async def start_machine(tmp_path: Path, guest_files: GuestFiles) -> AsyncIterator[StartMachine]:
    """Machine.start in a folder of the test's; what still runs at the end is killed."""
    machines: list[Machine] = []

    async def start(root: RootImage, *, volumes: tuple[Path, ...] = (), forward: int = 0) -> Machine:
        folder = tmp_path / f"m{len(machines)}"
        machines.append(await Machine.start(folder, guest_files, root.rootfs, volumes=volumes, forward=forward))
        return machines[-1]

    yield start
    for machine in machines:
        await machine.close()


@dataclass(frozen=True)
class Identity:
    """A server's self-signed certificate. `secret`: the platform's secret file with it."""

    trust: ssl.SSLContext
    secret: bytes
    key_pem: bytes


@pytest.fixture(scope="session")
def identity() -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTNAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOSTNAME)]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    values = {"TLS_CERT": certificate, "TLS_KEY": key_pem}
    lines = [f"{key}=base64:{base64.b64encode(value).decode()}" for key, value in values.items()]
    secret = "\n".join(["# TRUEUP_SECRETS_V1", 'GREETING=hello "world"=', *lines, ""])
    return Identity(ssl.create_default_context(cadata=certificate.decode()), secret.encode(), key_pem)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def request(port: int, trust: ssl.SSLContext, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """One HTTPS request; tried again until the server listens."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOSTNAME}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    async with asyncio.timeout(60):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=HOSTNAME)
            except (OSError, ssl.SSLError):
                await asyncio.sleep(0.05)
                continue
            writer.write(head.encode() + body)
            answer = await reader.read()
            writer.close()
            status, _, rest = answer.partition(b"\r\n")
            return int(status.split()[1]), rest.partition(b"\r\n\r\n")[2]
