"""A visitor of the site: TLS by SNI through the edge, certificates checked against the demo's own authority."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path

REQUEST_TIMEOUT_S = 10.0


@dataclass
class Client:
    """`address` is the edge's; the name is only in the TLS hello, so no resolver is involved."""

    address: str
    authority: Path
    port: int = 443

    async def request(
        self, hostname: str, path: str = "/", *, method: str = "GET", body: bytes = b""
    ) -> tuple[int, str]:
        """Status and body of one request on a connection of its own."""
        async with asyncio.timeout(REQUEST_TIMEOUT_S):  # wait_for may swallow a cancellation
            return await self._request(hostname, path, method, body)

    async def _request(self, hostname: str, path: str, method: str, body: bytes) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(self.authority))
        reader, writer = await asyncio.open_connection(
            self.address, self.port, ssl=context, server_hostname=hostname, ssl_handshake_timeout=REQUEST_TIMEOUT_S
        )
        try:
            head = (
                f"{method} {path} HTTP/1.1",
                f"Host: {hostname}",
                "Connection: close",
                f"Content-Length: {len(body)}",
            )
            writer.write("\r\n".join((*head, "", "")).encode() + body)
            answer = await reader.read(-1)
        finally:
            writer.close()
        head_bytes, _, content = answer.partition(b"\r\n\r\n")
        if not head_bytes.startswith(b"HTTP/1.1 "):
            raise ConnectionResetError("the connection ended before an answer")
        return int(head_bytes.split()[1]), content.decode()


@dataclass
class Traffic:
    """A client that never stops asking, and remembers every answer that was not 200."""

    client: Client
    hostname: str
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    bodies: set[str] = field(default_factory=set)
    _over: bool = False
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Traffic:
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._over = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        while not self._over:
            started = time.monotonic()
            try:
                status, body = await self.client.request(self.hostname)
                self.bodies.add(body)
                if status != 200:
                    self.failures.append(f"status {status}")
            except (OSError, TimeoutError, ssl.SSLError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self.requests += 1
            self.longest_s = max(self.longest_s, time.monotonic() - started)
            await asyncio.sleep(0.1)

    def summary(self) -> str:
        first = f", first: {self.failures[0]}" if self.failures else ""
        return f"{self.requests} requests, {len(self.failures)} failed{first}, longest {self.longest_s:.1f} s"
