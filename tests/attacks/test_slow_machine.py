"""A machine that opens its stream over TLS and takes nothing costs little, is cut off, and delays nobody."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kit.machine_names import CONTROLLER_HOST
from reconciler.certificates.authority import Authority
from reconciler.core.events import NewEvent
from reconciler.server.limits import Limits
from tests.attacks.machines import Door
from tests.twin import append
from tests.unit.server.world import DEADLINE_S, serving, until

LIMITS = replace(
    Limits(), stream_stall_s=1.0, bookmark_every_s=0.2, stream_chunk_bytes_max=32_768, stream_sndbuf_bytes=8192
)
EVENTS = 300
UNDER_TLS_BYTES = 64 << 10
"""asyncio lets so much that is encrypted wait for the kernel before it stops encrypting."""


async def test_a_machine_that_takes_nothing_is_cut_off_within_its_bounds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority.open_or_create(tmp_path / "ca", "fleet.test", datetime.now(UTC))
    async with serving(LIMITS, authority=authority, machine_tokens=False) as world:
        here = Door(world, authority, tmp_path)
        machine = await here.joined("node", "node-a")
        slow = await asyncio.to_thread(_asks_and_reads_nothing, here.url, machine.context())
        await until(lambda: world.streams.open_count == 1)
        payload = {"node_id": "node-a", "filler": "x" * 10_000}
        for number in range(EVENTS):
            told = NewEvent("instance", f"i-{number}", "instance.status_changed", payload)
            await append(world.log, f"c{number}", told)
        most = 0
        async with asyncio.timeout(DEADLINE_S):
            while world.streams.open_count:
                most = max(most, _buffered_bytes())
                await asyncio.sleep(0.05)
        assert 0 < most < UNDER_TLS_BYTES + 2 * LIMITS.stream_chunk_bytes_max
        assert "slow reader cut off" in caplog.text
        slow.close()


def _asks_and_reads_nothing(url: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    host, port = url.removeprefix("https://").split(":")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((host, int(port)))
    wrapped = context.wrap_socket(raw, server_hostname=CONTROLLER_HOST)
    wrapped.sendall(b"GET /v1/stream?cursor=log-1.0 HTTP/1.1\r\nHost: x\r\n\r\n")
    return wrapped


def _buffered_bytes() -> int:
    """Of all connections of this process, above the kernel: encrypted, and not yet so."""
    transports = (each for each in gc.get_objects() if isinstance(each, asyncio.Transport))
    return sum(each.get_write_buffer_size() for each in transports)
