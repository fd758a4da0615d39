"""One answer that goes on: writing to it, until its reader takes nothing. Used by `reconciler.server.streams`."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from aiohttp import web
from aiohttp.http import HttpVersion11

from reconciler.server.limits import Limits

NDJSON = "application/x-ndjson"
HEADERS = {"Content-Type": NDJSON, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The last is what nginx and others like it go by: without it they keep a stream back until they have a buffer full."""


class StreamWriter:
    """`transport` and `chunked`: for who writes beside this one, when nothing of this one is under way."""

    def __init__(self, request: web.Request, limits: Limits) -> None:
        self._request = request
        self._limits = limits
        self.response = web.StreamResponse(headers=HEADERS)
        self.transport = _bound_socket(request, limits)
        self.chunked = request.version >= HttpVersion11
        self.broken = False
        """Nothing more can be written."""

    async def begin(self) -> None:
        await self.response.prepare(self._request)

    async def write(self, data: bytes = b"") -> None:
        """Returns when the kernel has taken everything, also what others have written. `TimeoutError` when it does not
        for `stream_stall_s`."""
        async with asyncio.timeout(self._limits.stream_stall_s):
            await self._write(data)

    async def give_up(self, last_line: bytes) -> None:
        """Tries to say why, for a moment; then the connection is closed, whatever is still buffered."""
        self.broken = True
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._limits.stream_goodbye_s):
                await self._write(last_line)
                return
        self.transport.abort()

    async def _write(self, data: bytes) -> None:
        if data:
            await self.response.write(data)
        await self._request.writer.drain()


def _bound_socket(request: web.Request, limits: Limits) -> asyncio.Transport:
    """The kernel's share of a slow reader's memory, and when it gives up a vanished one. Later than we give up a slow
    one, so that a slow one is cut off with the reason in the log. Beside it nothing is buffered but the last piece."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the reader left before it was answered")
    transport.set_write_buffer_limits(
        high=1, low=0
    )  # at high=0 the transport of TLS takes an empty buffer for a full one
    connection = transport.get_extra_info("socket")
    if connection is None:
        return transport
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.stream_sndbuf_bytes)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.stream_stall_s * 2000))
    return transport
