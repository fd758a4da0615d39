"""Brings the schema up to date: every sql/NNNN_name.sql once, in order, while an older version still serves.

Called by `reconciler.store.store` at each start, as the owner. It promises:

- each file is applied wholly or not at all, in a transaction of its own; two processes at once do not meet (an advisory
  lock);
- nobody waits long for it (`patience`);
- a file that was changed after it was applied is refused, because the schema it described is not the one that is there;
- a database that a newer trueup has migrated is refused, unless each file that this version does not know says that
  this version may go on: its first lines hold `-- compatible_from: NNNN`, the oldest schema whose programs work on it.

So a change comes in two versions: the first adds (`compatible_from` of what went before), the second, once no program
uses the old form any more, removes. A file without the line is compatible with nothing older.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from kit import logs
from kit.errors import Bug, Refusal
from reconciler.store import patience
from reconciler.store.pool import SCHEMA, connect, translated
from reconciler.store.roles import MIGRATE_ROLE, OWNER_ROLE

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_COMPATIBLE = re.compile(r"^-- compatible_from: (\d{4})$", re.MULTILINE)

# Of the session; the kernel of the matter: only one process migrates. It is asked for, never waited for.
TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('trueup migrations', 0))"

# The one table that no numbered file can make. The schema is there, or the owner may make it: a server of our own.
MAKE_RECORD = f"""
DO $$ BEGIN IF to_regnamespace('{SCHEMA}') IS NULL THEN CREATE SCHEMA {SCHEMA}; END IF; END $$;
CREATE TABLE IF NOT EXISTS {SCHEMA}.migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE {SCHEMA}.migrations ADD COLUMN IF NOT EXISTS compatible_from text NOT NULL DEFAULT ''"""

IS_RECORD_NEW = """
SELECT count(*) = 0 FROM information_schema.columns
WHERE table_schema = $1 AND table_name = 'migrations' AND column_name = 'compatible_from'"""

# The first file lets the application look into the schema and at the record.
MAY_LOOK = f"SELECT coalesce(has_schema_privilege(to_regnamespace('{SCHEMA}'), 'USAGE'), false)"

APPLIED = f"SELECT name, sha256, compatible_from FROM {SCHEMA}.migrations ORDER BY name"  # noqa: S608  # a fixed name

RECORD = f"INSERT INTO {SCHEMA}.migrations (name, sha256, compatible_from) VALUES ($1, $2, $3)"  # noqa: S608  # a fixed name

_log = logs.get("store")


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def number(self) -> str:
        return self.name[:4]

    @property
    def compatible_from(self) -> str:
        """The number of the oldest schema whose programs work after this file; its own when it does not say."""
        found = _COMPATIBLE.search(self.sql)
        return found[1] if found else self.number


def load_migrations() -> tuple[Migration, ...]:
    """The files of sql/, by number. Numbers may be left out, never used twice."""
    folder = resources.files("reconciler.store") / "sql"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".sql")), key=lambda each: each.name)
    found = tuple(Migration(each.name, each.read_text(encoding="utf-8")) for each in files)
    last = ""
    for migration in found:
        if _NAME.fullmatch(migration.name) is None or migration.number <= last:
            raise Bug("read the migrations", f"{migration.name} has no number of its own", code="migration_name")
        if migration.compatible_from > migration.number:
            raise Bug("read the migrations", f"{migration.name} is compatible_from a later one", code="migration_name")
        last = migration.number
    return found


async def migrate(migrate_url: str, migrations: tuple[Migration, ...] | None = None) -> list[str]:
    """As the owner, which the URL's role may become. Returns the names of the files that it applied. `Transient`
    ("migration_blocked") when others hold the tables, or another process migrates, for too long."""
    wanted = load_migrations() if migrations is None else migrations
    deadline_s = time.monotonic() + patience.DEADLINE_S
    connection = await connect(migrate_url, role=OWNER_ROLE)
    try:
        with translated("migrate the database"):
            await _take_turn(connection, deadline_s)
            if await connection.fetchval(IS_RECORD_NEW, SCHEMA):
                await connection.execute(MAKE_RECORD)
            missing = _missing(await connection.fetch(APPLIED), wanted)
        for migration in missing:
            await _apply(connection, migration, deadline_s)
        return [migration.name for migration in missing]
    finally:
        await connection.close()


async def check_schema(app_url: str, app_role: str) -> None:
    """For a program that may not migrate: `Refusal` unless the schema is the one that it needs, or a newer one that
    allows it."""
    connection = await connect(app_url, role=app_role)
    try:
        with translated("look at the schema"):
            made = await connection.fetchval(MAY_LOOK)
            missing = _missing(await connection.fetch(APPLIED) if made else [], load_migrations())
    finally:
        await connection.close()
    if missing:
        raise Refusal(
            "open the store",
            f"the schema lacks {missing[0].name} and {len(missing) - 1} more; this log-in may not change it",
            fix=f"run `trueup migrate` with the URL of a member of {MIGRATE_ROLE}",
            code="schema_older",
        )


async def _take_turn(connection: Connection, deadline_s: float) -> None:
    while not await connection.fetchval(TRY_LOCK):
        if time.monotonic() > deadline_s:
            raise patience.blocked("migrate the database", "another process has been migrating it all the time")
        await asyncio.sleep(0.1)


async def _apply(connection: Connection, migration: Migration, deadline_s: float) -> None:
    async def change() -> None:
        await connection.execute(migration.sql, timeout=patience.STATEMENT_TIMEOUT_MS / 1000)
        await connection.execute(RECORD, migration.name, migration.sha256, migration.compatible_from)

    await patience.with_locks(connection, f"apply migration {migration.name}", change, deadline_s)
    _log.info("migration applied", name=migration.name)


def _missing(applied: list[Any], wanted: tuple[Migration, ...]) -> list[Migration]:
    ours = {migration.name: migration for migration in wanted}
    newest = max((migration.number for migration in wanted), default="")
    for row in applied:
        name, sha256, compatible_from = row["name"], row["sha256"], row["compatible_from"]
        if name in ours:
            if ours[name].sha256 != sha256:
                raise _changed(name)
        elif not compatible_from or compatible_from > newest:
            raise _newer(name)
    there = {row["name"] for row in applied}
    return [migration for migration in wanted if migration.name not in there]


def _newer(name: str) -> Refusal:
    return Refusal(
        "migrate the database",
        f"it has the migration {name}, which this version of trueup does not know and cannot work with",
        fix="run the version that made it, or a newer one",
        code="schema_newer",
    )


def _changed(name: str) -> Refusal:
    return Refusal(
        "migrate the database",
        f"the file {name} was changed after it was applied",
        fix="restore the file and put the change into a new migration",
        code="migration_changed",
    )
