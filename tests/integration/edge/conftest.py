from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.dataplane.haproxy import HaproxyDataplane
from tests.integration.edge.parts import Backend, haproxy, short_folder

StartBackend = Callable[..., Coroutine[Any, Any, Backend]]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
async def dataplane(folder: Path) -> AsyncIterator[HaproxyDataplane]:
    made = haproxy(folder)
    yield made
    await made.stop()


@pytest.fixture
async def backend() -> AsyncIterator[StartBackend]:
    """`await backend("a", "a.example")` starts one."""
    started: list[Backend] = []

    async def start(name: str, hostname: str = "", *, expect_proxy: bool = False, port: int = 0) -> Backend:
        made = await Backend(name, hostname, expect_proxy, port).start()
        started.append(made)
        return made

    yield start
    for each in started:
        await each.stop()
