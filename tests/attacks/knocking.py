"""A client that sends whatever it likes, byte by byte if need be, to a real listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.unit.server.world import DEADLINE_S, World

MEMBERS = {"type", "title", "status", "detail", "code", "fix", "retryable", "retry_after_seconds", "request_id"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The body, which has to be a whole problem+json that agrees with the header."""
        assert self.headers["content-type"] == "application/problem+json", self
        document: dict[str, Any] = json.loads(self.body)
        assert set(document) >= MEMBERS
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"] != ""
        return document


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = world.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def said(world: World, data: bytes) -> bytes:
    """All that the server says until it closes."""
    async with connected(world) as (reader, writer):
        writer.write(data)
        return await heard(reader)


async def heard(reader: asyncio.StreamReader) -> bytes:
    found = b""
    async with asyncio.timeout(DEADLINE_S):
        try:
            while piece := await reader.read(65536):
                found += piece
        except ConnectionError:
            pass
    return found


def answers(data: bytes) -> list[Answer]:
    """Every answer in what a server said; each has to have a Content-Length."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers["content-length"])
        found.append(Answer(int(lines[0].split()[1]), headers, rest[:length]))
        data = rest[length:]
    return found


async def drip(writer: asyncio.StreamWriter, data: bytes, *, every_s: float) -> None:
    """One byte at a time, until the server has had enough."""
    try:
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(every_s)
    except ConnectionError:
        return
