"""Migrations under load: who appends and reads meanwhile sees no error, or is told so in time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from kit.errors import Refusal, Transient
from reconciler.core.commands import Appended
from reconciler.store import patience
from reconciler.store.migrate import Migration, load_migrations, migrate
from reconciler.store.roles import APP_ROLE, MIGRATE_ROLE, prepare_embedded
from reconciler.store.server import SUPERUSER
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.integration.store.building import command, node_event
from tests.postgres import Cluster

PREVIOUS = tuple(
    Migration(path.name, path.read_text()) for path in sorted((Path(__file__).parent / "previous").glob("[0-9]*.sql"))
)
"""The schema before the hash chain, file by file."""
COMPATIBLE = load_migrations()[-1].number


@dataclass
class Load:
    """Appends and reads without a pause, and remembers what went wrong and how long anything took."""

    store: Store
    appended: int = 0
    reads: int = 0
    errors: list[str] = field(default_factory=list)
    longest_s: float = 0.0

    async def append(self) -> None:
        (result,) = await self.store.log.append([command(node_event())])
        assert isinstance(result, Appended)
        self.appended += 1

    async def read(self) -> None:
        await self.store.log.read(0, limit=100)
        await self.store.views.snapshot(["nodes"])
        self.reads += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()

        async def repeat(act: object) -> None:
            while not stop.is_set():
                begun_s = asyncio.get_running_loop().time()
                try:
                    await act()  # type: ignore[operator]  # append or read
                except Exception as error:
                    self.errors.append(str(error))
                self.longest_s = max(self.longest_s, asyncio.get_running_loop().time() - begun_s)

        tasks = [asyncio.create_task(repeat(act)) for act in (self.append, self.append, self.read)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)


def following(*statements: str) -> tuple[Migration, ...]:
    """The present schema and what a next version might add to it."""
    known = load_migrations()
    number = int(known[-1].number)
    more = (
        Migration(f"{number + place:04}_next.sql", f"-- compatible_from: {COMPATIBLE}\n{text}")
        for place, text in enumerate(statements, start=1)
    )
    return (*known, *more)


ADDED = (
    "ALTER TABLE trueup.events ADD COLUMN note text NOT NULL DEFAULT ''",
    "ALTER TABLE trueup.log_head ADD COLUMN note text; ALTER TABLE trueup.commands ADD COLUMN note text",
    "CREATE TABLE trueup.later (); CREATE INDEX later_by_source ON trueup.events (source_id)",
    "ALTER TABLE trueup.view_nodes ADD COLUMN note text; ALTER TABLE trueup.claims ADD COLUMN note text",
)


async def test_appends_and_reads_go_on_while_a_later_version_adds_to_the_schema(
    store: Store, cluster: Cluster, database: str
) -> None:
    load = Load(store)
    async with load.running():
        await until(lambda: load.appended > 50 and load.reads > 5)
        assert len(await migrate(cluster.url(MIGRATE_ROLE, database), following(*ADDED))) == len(ADDED)
        appended = load.appended
        await until(lambda: load.appended > appended + 50)
    assert load.errors == []
    assert load.longest_s < 3
    assert (await store.log.head()).last_event_id == load.appended


async def test_a_migration_that_cannot_get_its_locks_lets_the_others_go_on(
    store: Store, cluster: Cluster, database: str
) -> None:
    """A long reader holds the table. The migration waits in small steps, and nobody queues behind it for long."""
    reader = await asyncpg.connect(cluster.url(SUPERUSER, database))
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetchval("SELECT count(*) FROM trueup.events")
    load = Load(store)
    async with load.running():
        task = asyncio.create_task(migrate(cluster.url(MIGRATE_ROLE, database), following(ADDED[0])))
        await asyncio.sleep(1.5)
        assert not task.done()
        appended = load.appended
        assert appended > 20, "they are served in between"
        await transaction.rollback()
        assert len(await asyncio.wait_for(task, 10)) == 1
    await reader.close()
    assert load.errors == []
    assert load.longest_s < patience.LOCK_WAIT_MS / 1000 + 1


async def test_a_migration_that_never_gets_its_locks_is_given_up(
    store: Store, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "DEADLINE_S", 1.0)
    reader = await asyncpg.connect(cluster.url(SUPERUSER, database))
    async with reader.transaction():
        await reader.fetchval("SELECT count(*) FROM trueup.events")
        with pytest.raises(Transient) as caught:
            await migrate(cluster.url(MIGRATE_ROLE, database), following(ADDED[0]))
    assert caught.value.code == "migration_blocked"
    await reader.close()


async def test_an_older_version_starts_on_a_newer_schema_only_if_that_says_so(
    store: Store, store_settings: StoreSettings, cluster: Cluster, database: str
) -> None:
    url = cluster.url(MIGRATE_ROLE, database)
    newer = following(*ADDED)
    await migrate(url, newer)
    assert await migrate(url) == []
    async with opened_store(store_settings) as older:
        await older.log.append([command(node_event())])
    last = newer[-1]
    breaking = Migration(f"{int(last.number) + 1:04}_breaks.sql", "DROP TABLE trueup.later")
    await migrate(url, (*newer, breaking))
    with pytest.raises(Refusal) as caught:
        await migrate(url)
    assert caught.value.code == "schema_newer"
    assert breaking.name in str(caught.value)


@pytest_asyncio.fixture
async def previous(cluster: Cluster) -> AsyncIterator[str]:
    """A database as the previous version left it, with a history."""
    name = "trueup_previous"
    await prepare_embedded(cluster.url(SUPERUSER, "postgres"), name)
    await migrate(cluster.url(MIGRATE_ROLE, name), PREVIOUS)
    await cluster.run("ALTER TABLE trueup.migrations DROP COLUMN compatible_from", name)
    yield name
    await cluster.run(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass
class Previous:
    """A controller of the previous version, as the database sees it: its statements, its role."""

    url: str
    appended: int = 0
    refused: list[str] = field(default_factory=list)
    reads: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        connection = await asyncpg.connect(self.url, server_settings={"search_path": "trueup"})
        try:
            while not stop.is_set():
                await self._append(connection)
                await connection.fetch("SELECT event_id, payload FROM events WHERE event_id > $1 LIMIT 100", 0)
                await connection.fetch("SELECT key, doc FROM view_nodes")
                await connection.fetchrow("SELECT log_id, last_event_id FROM log_head")
                self.reads += 1
        finally:
            await connection.close()

    async def _append(self, connection: asyncpg.Connection) -> None:
        try:
            async with connection.transaction():
                seen = await connection.fetchrow(
                    "SELECT * FROM look_before_append($1, $2, $3, $4, $5, $6)",
                    [f"old-{self.appended}"], ["node"], ["node-a"], [False], [], [],
                )  # fmt: skip
                event_id, aggregates = seen["last_event_id"] + 1, json.loads(seen["aggregates"] or "[]")
                await connection.execute(
                    "INSERT INTO events (event_id, occurred_at, aggregate_type, aggregate_id, aggregate_seq,"
                    " event_type, event_version, command_id, actor_type, actor_id, org_id, source_id, commit_id, path,"
                    " line, correlation_id, causation_id, payload) VALUES ($1, now(), 'node', 'node-a', $2,"
                    " 'node.state_changed', 1, $3, 'system', 'nodes', '', '', '', '', 0, '', 0, $4)",
                    event_id,
                    (aggregates[0][2] if aggregates else 0) + 1,
                    f"old-{self.appended}",
                    json.dumps({"node_id": "node-a", "state": "offline", "reason": "x"}),
                )
                await connection.execute(
                    "INSERT INTO commands (command_id, body_hash, first_event_id, last_event_id)"
                    " VALUES ($1, 'h', $2, $2)",
                    f"old-{self.appended}",
                    event_id,
                )
                await connection.execute("UPDATE log_head SET last_event_id = $1", event_id)
        except asyncpg.PostgresError as error:
            self.refused.append(str(error))
        else:
            self.appended += 1


async def test_the_previous_schema_is_migrated_while_its_controller_reads_and_nothing_of_it_is_lost(
    cluster: Cluster, previous: str, tmp_path: Path
) -> None:
    """The hash chain shuts the previous version's appends out: they are refused, whole, and never half written. Its
    reads see no error. What it was told is appended is there, chained, and the present version goes on from it."""
    old, stop = Previous(cluster.url(APP_ROLE, previous)), asyncio.Event()
    task = asyncio.create_task(old.run(stop))
    await until(lambda: old.appended > 100)
    await migrate(cluster.url(MIGRATE_ROLE, previous))
    reads = old.reads
    await until(lambda: old.reads > reads + 20)
    stop.set()
    await task
    settings = StoreSettings(tmp_path, cluster.url(MIGRATE_ROLE, previous), cluster.url(APP_ROLE, previous))
    async with opened_store(settings) as store:
        assert (await store.log.head()).last_event_id == old.appended
        events = await store.log.read(0, limit=5000)
        assert [event.event_id for event in events] == list(range(1, old.appended + 1))
        (result,) = await store.log.append([command(node_event())])
        assert isinstance(result, Appended) and result.last_event_id == old.appended + 1
    connection = await asyncpg.connect(cluster.url(SUPERUSER, previous))
    assert await connection.fetchval("SELECT count(*) FROM trueup.events WHERE hash IS NULL") == 0
    await connection.close()


def destructive() -> Iterator[str]:
    """Files that take something away from the programs of an older version, without saying from where on it works."""
    for migration in load_migrations():
        text = re.sub(r"\$\$.*?\$\$", "", re.sub(r"--.*", "", migration.sql), flags=re.DOTALL)
        taken = r"\b(DROP(?! INDEX| CONSTRAINT)|RENAME|TRUNCATE|REVOKE)\b"  # programs ask for neither of those two
        if re.search(taken, text) and migration.compatible_from != migration.number:
            yield migration.name


def test_no_file_takes_something_away_and_says_that_older_versions_may_go_on() -> None:
    assert list(destructive()) == []


async def until(condition: object, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]  # a callable
            await asyncio.sleep(0.01)
