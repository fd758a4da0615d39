"""A TCP proxy before a controller that does what networks and other people's proxies do.

It knows of HTTP only what it needs: a change stream is sent in chunks, the answer of a long poll has a length.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\n"
_REQUEST = re.compile(rb"GET (\S+) HTTP/1.1\r\n")

Kind = Literal["pass", "buffer", "cut", "reset", "half_open", "delay", "bad_gateway", "log_in_page"]


@dataclass(frozen=True)
class Fault:
    """`after`: bytes of the answer that pass before."""

    kind: Kind = "pass"
    after: int = 0


class Request(NamedTuple):
    at_s: float
    path: str

    @property
    def polls(self) -> bool:
        return "wait=" in self.path


@dataclass
class FaultyProxy:
    """`faults`: of the next connections, in order; `otherwise`: of the others."""

    host: str
    port: int
    faults: list[Fault] = field(default_factory=list)
    otherwise: Fault = Fault()
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def polls(self) -> int:
        return sum(each.polls for each in self.requests)

    @property
    def streams(self) -> int:
        return len(self.requests) - self.polls

    def cut_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        fault = self.faults.pop(0) if self.faults else self.otherwise
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if fault.kind in ("bad_gateway", "log_in_page"):
                await self._answer(client, back, "502 Bad Gateway" if fault.kind == "bad_gateway" else "200 OK")
            else:
                await self._join(client, back, fault)
        back.transport.abort()
        self._writers.discard(back)

    async def _answer(self, client: asyncio.StreamReader, back: asyncio.StreamWriter, status: str) -> None:
        self._note(await client.readuntil(b"\r\n\r\n"))
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(HTML)}\r\nConnection: close\r\n\r\n"
        )
        back.write(head.encode() + HTML)
        await back.drain()

    async def _join(self, client: asyncio.StreamReader, back: asyncio.StreamWriter, fault: Fault) -> None:
        answers, server = await asyncio.open_connection(self.host, self.port)
        self._writers |= {back, server}
        ways = [asyncio.ensure_future(self._up(client, server)), asyncio.ensure_future(_down(answers, back, fault))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            server.transport.abort()
            self._writers.discard(server)

    async def _up(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await client.read(65536):
            self._note(data)
            server.write(data)
            await server.drain()

    def _note(self, data: bytes) -> None:
        self.requests += [Request(time.monotonic(), found.decode()) for found in _REQUEST.findall(data)]


async def _down(answers: asyncio.StreamReader, back: asyncio.StreamWriter, fault: Fault) -> None:
    """Returns when the connection shall end."""
    passed, held = 0, b""
    while data := await answers.read(65536):
        if fault.kind == "buffer":
            held += data
            if b"Transfer-Encoding: chunked" in held and not held.endswith(b"0\r\n\r\n"):
                continue
            data, held = held, b""
        if fault.kind in ("cut", "reset", "half_open") and passed + len(data) > fault.after:
            back.write(data[: max(0, fault.after - passed)])
            await back.drain()
            await _break(back, fault.kind)
            return
        passed += len(data)
        await _pass_on(data, back, fault)


async def _pass_on(data: bytes, back: asyncio.StreamWriter, fault: Fault) -> None:
    size = 700 if fault.kind == "delay" else len(data)
    for start in range(0, len(data), size):
        if fault.kind == "delay":
            await asyncio.sleep(0.002)
        back.write(data[start : start + size])
        await back.drain()


async def _break(back: asyncio.StreamWriter, kind: Kind) -> None:
    if kind == "half_open":
        await asyncio.Event().wait()  # nothing passes any more, and nobody is told
    if kind == "reset":
        connection = back.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        back.transport.abort()
    else:
        back.close()
        await back.wait_closed()


@contextlib.asynccontextmanager
async def faulty_proxy(url: str) -> AsyncIterator[FaultyProxy]:
    """Before the controller at `url`."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    proxy = FaultyProxy(host, int(port))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut_all()
