"""etcd, as a rival of the change stream: one key, thousands of watches, the same bytes. Debian's etcd-server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.bench.streaming import Process, running

START_TIMEOUT_S = 30.0
KEY = b"watched"


@dataclass(frozen=True, slots=True)
class Etcd:
    process: Process
    host: str
    port: int
    session: aiohttp.ClientSession

    async def put(self, value: bytes) -> None:
        """Through etcd's own gateway; answered when it is committed."""
        document = {"key": base64.b64encode(KEY).decode(), "value": base64.b64encode(value).decode()}
        async with self.session.post(f"http://{self.host}:{self.port}/v3/kv/put", json=document) as answer:
            answer.raise_for_status()
            await answer.read()


@contextlib.asynccontextmanager
async def etcd(folder: Path) -> AsyncIterator[Etcd]:
    clients, peers = _free_port(), _free_port()
    client_url, peer_url = f"http://127.0.0.1:{clients}", f"http://127.0.0.1:{peers}"
    command = (
        "etcd", "--data-dir", str(folder), "--log-level", "error", "--logger", "zap",
        "--listen-client-urls", client_url, "--advertise-client-urls", client_url,
        "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
        "--initial-cluster", f"default={peer_url}",
    )  # fmt: skip
    async with running(*command) as process, aiohttp.ClientSession() as session:
        rival = Etcd(process, "127.0.0.1", clients, session)
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await rival.put(b"first")
                    break
                await asyncio.sleep(0.1)
        yield rival


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
