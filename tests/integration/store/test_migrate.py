"""Migrations: all or none, once, checked."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from kit.errors import Bug, Refusal
from reconciler.store.migrate import Migration, load_migrations, migrate
from reconciler.store.pool import connect
from reconciler.store.roles import MIGRATE_ROLE, check_version, prepare_embedded, prepare_external
from reconciler.store.server import SUPERUSER
from reconciler.store.settings import StoreSettings
from reconciler.store.store import opened_store
from tests.integration.store.building import command, node_event
from tests.postgres import Cluster


async def test_a_database_that_is_up_to_date_is_left_alone(cluster: Cluster, database: str) -> None:
    assert await migrate(cluster.url(MIGRATE_ROLE, database)) == []


async def test_two_processes_that_migrate_at_once_do_it_once(cluster: Cluster) -> None:
    name = "trueup_migrate"
    await prepare_embedded(cluster.url(SUPERUSER, "postgres"), name)
    try:
        done = await asyncio.gather(*(migrate(cluster.url(MIGRATE_ROLE, name)) for _ in range(3)))
        assert sorted(map(len, done)) == [0, 0, len(load_migrations())]
    finally:
        await cluster.run(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_failing_migration_leaves_nothing_of_itself(cluster: Cluster, database: str) -> None:
    url = cluster.url(MIGRATE_ROLE, database)
    known = load_migrations()
    number = int(known[-1].number) + 1
    good = Migration(f"{number:04}_good.sql", "CREATE TABLE trueup.good ()")
    bad = Migration(f"{number + 1:04}_bad.sql", "CREATE TABLE trueup.good ()")
    half = replace(bad, sql="CREATE TABLE trueup.half ();" + bad.sql)
    with pytest.raises(Bug, match=bad.name):
        await migrate(url, (*known, good, half))
    assert await migrate(url, (*known, good)) == [], "what was good stays"
    await migrate(url, (*known, good, replace(bad, sql="CREATE TABLE trueup.half ()")))


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(cluster: Cluster, database: str) -> None:
    first, *rest = load_migrations()
    with pytest.raises(Refusal, match=first.name):
        await migrate(cluster.url(MIGRATE_ROLE, database), (replace(first, sql=first.sql + "-- more"), *rest))


def test_a_postgres_that_is_too_old_is_refused() -> None:
    check_version(15)
    with pytest.raises(Refusal, match="Postgres 14"):
        check_version(14)


async def test_with_one_url_the_application_gives_up_its_rights(
    store_settings: StoreSettings, cluster: Cluster
) -> None:
    await cluster.run(f"GRANT trueup_app TO {MIGRATE_ROLE}")
    try:
        async with opened_store(replace(store_settings, app_url="")) as store:
            await store.log.append([command(node_event())])
            connection = await connect(store.access.app_url, role=store.access.app_role)
            try:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute("DELETE FROM events")
            finally:
                await connection.close()
    finally:
        await cluster.run(f"REVOKE trueup_app FROM {MIGRATE_ROLE}")


async def test_a_role_that_cannot_make_or_become_the_application_is_told_what_to_do(
    cluster: Cluster, database: str
) -> None:
    await cluster.run("CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(Refusal, match="own-postgres"):
            await prepare_external(cluster.url("stranger", database))
    finally:
        await cluster.run("DROP ROLE stranger")
