"""Real Postgres for tests: one embedded server per session, a fresh migrated database per test.

`store` is an open Store on a database of its own. `store_settings` are its settings, for a test that opens more of
them. `superuser_url` reaches the same database past every guard.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from reconciler.store.migrate import migrate
from reconciler.store.roles import APP_ROLE, MIGRATE_ROLE, OWNER_ROLE, prepare_embedded
from reconciler.store.server import SUPERUSER, EmbeddedServer
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, open_store

TEMPLATE = "trueup_template"

FAST = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
"""A test database need not survive a power cut; kill -9 does no harm without fsync."""

MEMORY_BYTES = 8 << 30
"""Free, for it to be used: a test database has some 20 MB, and a few of them tens of thousands of events."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Cluster:
    server: EmbeddedServer

    def url(self, role: str, database: str) -> str:
        return self.server.url(role, database)

    async def run(self, statement: str, database: str = "postgres") -> None:
        connection = await asyncpg.connect(self.url(SUPERUSER, database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="trueup-test-", dir=_quick_place()))
    server = EmbeddedServer(folder / "postgres", settings=FAST)
    try:
        server.start()
        asyncio.run(_make_template(Cluster(server)))
        yield Cluster(server)
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


def _quick_place() -> Path | None:
    """In memory where there is enough of it: a database for each test is a thousand files. Else where /tmp is."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > MEMORY_BYTES else None


async def _make_template(cluster: Cluster) -> None:
    await prepare_embedded(cluster.url(SUPERUSER, "postgres"), TEMPLATE)
    await migrate(cluster.url(MIGRATE_ROLE, TEMPLATE))


@pytest_asyncio.fixture
async def database(cluster: Cluster) -> AsyncIterator[str]:
    """The name of a fresh, migrated database with a log id of its own."""
    name = f"trueup_{next(_numbers)}"
    await cluster.run(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER {OWNER_ROLE}")
    await cluster.run("UPDATE trueup.log_head SET log_id = replace(gen_random_uuid()::text, '-', '')", name)
    yield name
    await cluster.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def superuser_url(cluster: Cluster, database: str) -> str:
    return cluster.url(SUPERUSER, database)


@pytest.fixture
def store_settings(cluster: Cluster, database: str, tmp_path: Path) -> StoreSettings:
    return StoreSettings(
        state_dir=tmp_path,
        database_url=cluster.url(MIGRATE_ROLE, database),
        app_url=cluster.url(APP_ROLE, database),
        connections_max=4,
    )


@pytest_asyncio.fixture
async def store(store_settings: StoreSettings) -> AsyncIterator[Store]:
    opened = await open_store(store_settings)
    yield opened
    await opened.close()
