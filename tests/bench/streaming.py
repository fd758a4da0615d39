"""What the benchmarks of the change stream share: a log, stream processes, readers, and what each of them costs.

The log and its writer are in the benchmark's own process, the server and the readers each in one of their own, so that
the server's processor time is the server's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reconciler.server.auth import Role
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.bench.append import superuser_url
from tests.bench.stream_readers import Order
from tests.unit.server.world import token_of

READERS = 5_000
START_TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 1 << 20


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[tuple[Store, Path]]:
    with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
        async with opened_store(StoreSettings(state_dir=Path(folder))) as store:
            yield store, Path(folder)


@dataclass(frozen=True, slots=True)
class Process:
    """One that is measured or talked with in lines of JSON."""

    process: asyncio.subprocess.Process

    @property
    def cpu_s(self) -> float:
        """User and system time of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))

    async def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        await self.process.stdin.drain()

    async def line(self, timeout_s: float) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout_s):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"process {self.process.pid} ended with {await self.process.wait()}")
        return line.decode().strip()


@contextlib.asynccontextmanager
async def running(*command: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=ANSWER_BYTES_MAX
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def stream_process(store: Store, folder: Path, *options: str) -> AsyncIterator[tuple[Process, str]]:
    """A server on the log of `store`, and its address."""
    module = "tests.bench.stream_process"
    command = (sys.executable, "-m", module, str(folder / "stream"), superuser_url(store), *options)
    async with running(*command) as process:
        yield process, await process.line(START_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Records:
    """Column by column: when a reader was given something, and what: the events (before, after]."""

    times: Sequence[float]
    befores: Sequence[int]
    afters: Sequence[int]


class Fleet:
    """The process of the readers, all of them connected."""

    def __init__(self, process: Process, records: Path) -> None:
        self.process = process
        self._records = records

    async def until(self, position: int, timeout_s: float) -> dict[str, Any]:
        """As soon as every reader has been given everything up to `position`."""
        await self.process.say(f"until {position}")
        answer: dict[str, Any] = json.loads(await self.process.line(timeout_s))
        return answer

    async def stop(self) -> Records:
        await self.process.say("stop")
        await self.process.line(60)
        data = self._records.read_bytes()
        columns: list[Any] = []
        for kind in ("d", "q", "q"):
            size = int.from_bytes(data[:8], "little") * 8
            column = array(kind)
            column.frombytes(data[8 : 8 + size])
            columns.append(column)
            data = data[8 + size :]
        return Records(*columns)


@contextlib.asynccontextmanager
async def fleet(order: Order, *, timeout_s: float = START_TIMEOUT_S) -> AsyncIterator[Fleet]:
    async with running(sys.executable, "-m", "tests.bench.stream_readers") as process:
        await process.say(json.dumps(asdict(order)))
        assert json.loads(await process.line(timeout_s))["open"]
        yield Fleet(process, Path(order.records))


def order(
    url: str,
    folder: Path,
    role: Role,
    count: int,
    log_id: str,
    position: int,
    *,
    each: bool = False,
    certificates: str = "",
) -> Order:
    """Readers ROLE-0, ROLE-1 and so on, behind `position`. `certificates`: the folder of theirs, else they have
    tokens."""
    host, port = url.partition("://")[2].split(":")

    def request(number: int) -> str:
        token = "" if certificates else f"Authorization: Bearer {token_of(role, f'{role}-{number}')}\r\n"
        return f"GET /v1/stream?cursor=CURSOR HTTP/1.1\r\nHost: bench\r\n{token}\r\n"

    requests = [request(number) for number in range(count)]
    records = str(folder / f"records-{role}")
    return Order(host, int(port), records, log_id, position, requests, each=each, certificates=certificates)
