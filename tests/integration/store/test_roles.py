"""What each role can do, with real log-ins: none that the program uses can rewrite history."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from kit.errors import Refusal
from reconciler.cli.main import main
from reconciler.core.commands import Appended
from reconciler.store.migrate import load_migrations, migrate
from reconciler.store.ownership import settle_ownership
from reconciler.store.pool import connect
from reconciler.store.roles import APP_ROLE, MIGRATE_ROLE, OWNER_ROLE
from reconciler.store.server import SUPERUSER, EmbeddedServer
from reconciler.store.settings import StoreSettings
from reconciler.store.store import Store, opened_store
from tests.integration.store.building import command, node_event
from tests.integration.store.test_migrate_online import Load, until
from tests.postgres import FAST, Cluster

DONE, DENIED, KEPT = "done", "denied", "append-only"

UNSEEN = (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError)
"""What somebody is told who may not even look into the schema."""

WORK: dict[str, str] = {
    "read": "SELECT count(*) FROM events, log_head, view_nodes",
    "append": "SELECT append_one('c', 'h', '', 0, NULL, 0, 'node', 'n', 'node.x', 1, 'system', 'x', 'o', '', '', '', 0,"
    " '', 0, '{}')",
    "claim": "DELETE FROM claims",
    "project": "UPDATE view_nodes SET doc = '{}'",
    "update events": "UPDATE events SET line = 1",
    "delete events": "DELETE FROM events",
    "truncate events": "TRUNCATE events",
    "insert events": "INSERT INTO events SELECT * FROM events LIMIT 0",
    "move the head": "UPDATE log_head SET last_event_id = 0",
    "rename the log": "UPDATE log_head SET log_id = 'x'",
    "drop the head": "DELETE FROM log_head",
    "forget a command": "DELETE FROM commands",
    "change a command": "UPDATE commands SET body_hash = 'x'",
    "forget a migration": "DELETE FROM migrations",
    "disable the trigger": "ALTER TABLE events DISABLE TRIGGER ALL",
    "drop the trigger": "DROP TRIGGER events_append_only ON events",
    "replace the guard": "CREATE OR REPLACE FUNCTION trueup.refuse_change() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'",
    "alter events": "ALTER TABLE events ADD COLUMN more text",
    "drop events": "DROP TABLE events",
    "make a table": "CREATE TABLE trueup.mine ()",
    "act as a replica": "SET LOCAL session_replication_role = replica",
    "become the owner": "SET LOCAL ROLE trueup_owner",
}

MAY: dict[str, set[str]] = {
    "trueup_append": {"read", "append", "claim"},
    "trueup_project": {"read", "project"},
    "trueup_read": {"read"},
    APP_ROLE: {"read", "append", "claim", "project"},
    MIGRATE_ROLE: {"become the owner"},
}


@pytest_asyncio.fixture
async def one_event(store: Store) -> Store:
    await store.log.append([command(node_event())])
    return store


@pytest_asyncio.fixture
async def log_ins(cluster: Cluster) -> AsyncIterator[dict[str, str]]:
    """Role -> a log-in that is it, or is a member of it and of nothing else."""
    groups = [role for role in MAY if role not in (APP_ROLE, MIGRATE_ROLE)]
    for role in groups:
        await cluster.run(f"CREATE ROLE {role}_member LOGIN IN ROLE {role}")
    yield {role: f"{role}_member" if role in groups else role for role in MAY}
    for role in groups:
        await cluster.run(f"DROP ROLE {role}_member")


async def outcome(connection: asyncpg.Connection, statement: str) -> str:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except (asyncpg.InsufficientPrivilegeError, *UNSEEN):
        return DENIED
    except asyncpg.RestrictViolationError:
        return KEPT
    else:
        return DONE
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("role", MAY)
async def test_L5_each_log_in_does_its_own_work_only(
    one_event: Store, cluster: Cluster, database: str, log_ins: dict[str, str], role: str
) -> None:
    connection = await connect(cluster.url(log_ins[role], database))
    try:
        found = {name: await outcome(connection, statement) for name, statement in WORK.items()}
    finally:
        await connection.close()
    assert found == {name: DONE if name in MAY[role] else DENIED for name in WORK}


async def test_L5_the_trigger_stops_the_owner_and_a_superuser_too(one_event: Store, superuser_url: str) -> None:
    for url, role in ((superuser_url, ""), (one_event.access.migrate_url, OWNER_ROLE)):
        connection = await connect(url, role=role)
        try:
            for name in ("update events", "delete events", "truncate events"):
                assert await outcome(connection, WORK[name]) == KEPT, (name, role)
            assert await outcome(connection, WORK["alter events"]) == DONE, "migrations can"
        finally:
            await connection.close()


async def test_nobody_logs_in_as_the_owner_and_what_the_program_logs_in_as_owns_nothing(
    store: Store, cluster: Cluster, database: str, superuser_url: str
) -> None:
    with pytest.raises(Refusal, match="not permitted to log in"):
        await connect(cluster.url(OWNER_ROLE, database))
    connection = await connect(superuser_url)
    owners = await connection.fetch(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'trueup'::regnamespace"
        " UNION SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'trueup'::regnamespace"
        " UNION SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'trueup'"
    )
    able = await connection.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'trueup%'"
        " AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)"
    )
    await connection.close()
    assert [name for (name,) in owners] == [OWNER_ROLE]
    assert able == []


async def test_what_a_later_migration_makes_can_be_read_by_those_who_read(
    store: Store, superuser_url: str, log_ins: dict[str, str], cluster: Cluster, database: str
) -> None:
    owner = await connect(store.access.migrate_url, role=OWNER_ROLE)
    await owner.execute("CREATE TABLE trueup.later (n int)")
    await owner.close()
    reader = await connect(cluster.url(log_ins["trueup_read"], database))
    assert await reader.fetch("SELECT * FROM later") == []
    await reader.close()


def page_sql(number: int) -> str:
    page = Path(__file__).parents[3] / "docs" / "runbooks" / "own-postgres.md"
    found: list[str] = re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
    return found[number]


@pytest_asyncio.fixture
async def own_server() -> AsyncIterator[EmbeddedServer]:
    """A server without any of our roles, with a database `fleet` of an administrator who is no superuser."""
    folder = Path(tempfile.mkdtemp(prefix="trueup-own-"))
    server = EmbeddedServer(folder / "postgres", settings=FAST)
    await asyncio.to_thread(server.start)
    connection = await connect(server.url(SUPERUSER, "postgres"))
    await connection.execute("CREATE ROLE admin LOGIN CREATEROLE; CREATE ROLE plain LOGIN")
    await connection.execute("CREATE DATABASE fleet OWNER admin")
    await connection.close()
    yield server
    await asyncio.to_thread(server.close)
    shutil.rmtree(folder)


async def run_as(server: EmbeddedServer, role: str, statement: str) -> None:
    connection = await connect(server.url(role, "fleet"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_page_for_operators_gives_log_ins_that_work_and_no_more(
    own_server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its SQL as an administrator without superuser's rights; then `trueup migrate`, then a controller's store."""
    await run_as(own_server, "admin", page_sql(0))
    migrating, working = (own_server.url(role, "fleet") for role in (MIGRATE_ROLE, APP_ROLE))
    with pytest.raises(Refusal) as caught:
        async with opened_store(StoreSettings(tmp_path, working)):
            pass
    assert caught.value.code == "schema_older"
    assert await asyncio.to_thread(main, ["migrate", "--database-url", working]) != 0, "it may not"
    assert await asyncio.to_thread(main, ["migrate", "--database-url", migrating]) == 0
    assert f"applied {load_migrations()[-1].name}" in capsys.readouterr().out
    async with opened_store(StoreSettings(tmp_path, working)) as store:
        assert store.access.migrate_url == ""
        (result,) = await store.log.append([command(node_event())])
        assert isinstance(result, Appended)
        await store.writer.catch_up()
    await run_as(own_server, "admin", page_sql(1))
    assert await asyncio.to_thread(main, ["log", "verify", "--database-url", own_server.url("auditor", "fleet")]) == 0
    for role, allowed in ((APP_ROLE, MAY[APP_ROLE]), (MIGRATE_ROLE, MAY[MIGRATE_ROLE]), ("auditor", {"read"})):
        connection = await connect(own_server.url(role, "fleet"))
        found = {name for name, statement in WORK.items() if await outcome(connection, statement) == DONE}
        await connection.close()
        assert found == allowed, role


async def test_one_log_in_that_may_make_roles_is_enough(own_server: EmbeddedServer, tmp_path: Path) -> None:
    settings = StoreSettings(tmp_path, own_server.url("admin", "fleet"))
    for _ in range(2):
        async with opened_store(settings) as store:
            await store.log.append([command(node_event())])
            connection = await connect(store.access.app_url, role=store.access.app_role)
            found = {name for name, statement in WORK.items() if await outcome(connection, statement) == DONE}
            await connection.close()
            assert found - {"become the owner"} == MAY[APP_ROLE]
    with pytest.raises(Refusal, match=r"own-postgres\.md"):
        async with opened_store(replace(settings, database_url=own_server.url("plain", "fleet"))):
            pass


async def test_an_older_controller_serves_on_while_the_schema_is_handed_over(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    settings = StoreSettings(tmp_path, own_server.url("admin", "fleet"))
    async with opened_store(settings) as store:
        superuser = await connect(own_server.url(SUPERUSER, "fleet"))
        await superuser.execute("REASSIGN OWNED BY trueup_owner TO admin")
        load = Load(store)
        async with load.running():
            await until(lambda: load.appended > 10 and load.reads > 2, 60)
            assert len(await settle_ownership(settings.database_url)) > 20
            appended = load.appended
            await until(lambda: load.appended > appended + 10, 60)
        assert load.errors == []
        assert load.longest_s < 3
        assert await superuser.fetchval("SELECT count(*) FROM pg_class WHERE relowner = 'admin'::regrole") == 0
        await superuser.close()


async def test_what_an_older_version_owned_as_the_role_of_its_url_is_handed_over(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    settings = StoreSettings(tmp_path, own_server.url("admin", "fleet"))
    async with opened_store(settings) as store:
        await store.log.append([command(node_event())])
    superuser = await connect(own_server.url(SUPERUSER, "fleet"))
    await superuser.execute("REASSIGN OWNED BY trueup_owner TO admin")
    assert await superuser.fetchval("SELECT count(*) FROM pg_class WHERE relowner = 'admin'::regrole") > 20
    async with opened_store(settings) as store:
        (result,) = await store.log.append([command(node_event())])
        assert isinstance(result, Appended) and result.last_event_id == 2
    assert await superuser.fetchval("SELECT count(*) FROM pg_class WHERE relowner = 'admin'::regrole") == 0
    assert await superuser.fetchval("SELECT count(*) FROM pg_proc WHERE proowner = 'admin'::regrole") == 0
    await superuser.execute("ALTER TABLE trueup.events OWNER TO plain")
    await superuser.close()
    with pytest.raises(Refusal) as caught:
        async with opened_store(settings):
            pass
    assert caught.value.code == "postgres_owner"
    assert "ALTER TABLE trueup.events OWNER TO trueup_owner" in str(caught.value.fix)
    assert await migrate(own_server.url("admin", "fleet")) == []
