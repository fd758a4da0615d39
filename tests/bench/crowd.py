"""10,000 connections of clients that only want to be there: idle, dripping a header, coming back whenever they are cut.

From four addresses, each at its bound and asking for more, against a real `trueup controller`; a well-behaved operator
reads meanwhile, and before them. `held` is counted by the controller's open files, `kib_per_connection` by its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp

from reconciler.core.tokens import make_token
from tests.acceptance.repository import Repository
from tests.bench.append import superuser_url
from tests.bench.streaming import Process, opened, running

TITLE = "crowd: 10,000 idle and dripping connections from four addresses at their bound, and an operator beside them"
CONNECTIONS = 10_000
ADDRESSES = ("127.0.0.11", "127.0.0.12", "127.0.0.13", "127.0.0.14")
PER_ADDRESS = CONNECTIONS // len(ADDRESSES)
MORE = 100
"""That each address asks for beyond its bound."""
BACKLOG = 512
"""Accepted, and being told that there is no place."""
START_TIMEOUT_S = 120.0
READS, READS_PER_S = 1000, 50.0
KIB_PER_CONNECTION_MAX = 16.0
"""docs/LIMITS.md says so."""


async def run(progress: Callable[[str], None]) -> dict[str, Any]:
    async with opened() as (store, folder), controller(folder, superuser_url(store)) as (process, url, token):
        files = process.open_files
        without = await latencies_ms(url, token)
        rss_kib = process.rss_kib
        progress(f"p99 without a crowd {p99(without):.2f} ms, {rss_kib >> 10} MiB")
        async with crowd(url) as clients:
            await until(lambda: process.open_files - files >= CONNECTIONS)
            progress("the crowd is there")
            cpu_s, began_s = process.cpu_s, time.monotonic()
            async with most(lambda: (process.open_files - files, process.rss_kib - rss_kib)) as seen:
                beside = await latencies_ms(url, token)
            share = (process.cpu_s - cpu_s) / (time.monotonic() - began_s)
            held, kib = max(each[0] for each in seen), max(each[1] for each in seen) / CONNECTIONS
            counted = [await last_line(each) for each in clients]
    refused, cut = (sum(each[name] for each in counted) for name in ("refused", "cut"))
    progress(f"p99 beside the crowd {p99(beside):.2f} ms; {kib:.1f} KiB a connection")
    progress(f"{held} held, {refused} refused, {cut} cut and back")
    assert CONNECTIONS <= held <= CONNECTIONS + BACKLOG, held
    assert refused > 0
    assert kib < KIB_PER_CONNECTION_MAX, kib
    return {
        "connections": CONNECTIONS,
        "held": held,
        "kib_per_connection": round(kib, 1),
        "p99_ms_beside": round(p99(beside), 2),
        "p99_ms_without": round(p99(without), 2),
        "refused": refused,
        "cut": cut,
        "server_cores": round(share, 2),
    }


@contextlib.asynccontextmanager
async def most(look: Callable[[], tuple[int, int]]) -> AsyncIterator[list[tuple[int, int]]]:
    """What it sees, five times a second: the crowd is cut and comes back, all of it within moments."""
    seen: list[tuple[int, int]] = []

    async def watch() -> None:
        while True:
            seen.append(look())
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


class Measured(Process):
    __slots__ = ()

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextlib.asynccontextmanager
async def controller(folder: Path, database_url: str) -> AsyncIterator[tuple[Measured, str, str]]:
    repository, state = Repository.create(folder), folder / "controller"
    repository.write("env.yaml", "apiVersion: trueup/v1\nkind: Environment\nmetadata: {name: prod}\nspec: {}\n")
    repository.push("Begin")
    flags = (
        f"--repository={repository.origin}", f"--state={state}", "--listen=127.0.0.1:0",
        f"--database-url={database_url}", f"--http-connections-per-address-max={PER_ADDRESS}", "--log-level=error",
    )  # fmt: skip
    async with running(sys.executable, "-m", "reconciler", "controller", *flags) as process:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not (state / "controller.url").exists():
                await asyncio.sleep(0.1)
        url = (state / "controller.url").read_text().strip()
        token = make_token((state / "token.key").read_bytes(), "operator", "bench")
        yield Measured(process.process), url, token


@contextlib.asynccontextmanager
async def crowd(url: str) -> AsyncIterator[list[Process]]:
    """Two processes, since one may have 20,000 files at most."""
    port = url.rpartition(":")[2]
    command = (sys.executable, "-m", "tests.bench.crowd_clients", port, str(PER_ADDRESS + MORE))
    async with running(*command, *ADDRESSES[:2]) as first, running(*command, *ADDRESSES[2:]) as second:
        yield [first, second]


async def last_line(process: Process) -> dict[str, int]:
    """What it says last: it says something every second, and is behind by what was not read yet."""
    said = await process.line(10)
    with contextlib.suppress(TimeoutError):
        while True:
            said = await process.line(0.2)
    found: dict[str, int] = json.loads(said)
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.2)


async def latencies_ms(url: str, token: str) -> list[float]:
    """Of an operator that reads a view again and again."""
    found, headers = [], {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(url, headers=headers) as session:
        began_s = time.monotonic()
        for number in range(READS):
            await asyncio.sleep(max(0.0, began_s + number / READS_PER_S - time.monotonic()))
            asked_s = time.monotonic()
            async with session.get("/v1/views/nodes") as answer:
                await answer.read()
                assert answer.status == 200, answer.status
            found.append((time.monotonic() - asked_s) * 1000)
    return found


def p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]
