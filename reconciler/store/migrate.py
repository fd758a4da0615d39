"""Brings the schema up to date: every sql/NNNN_name.sql once, in order, in one transaction.

Called by `reconciler.store.store` at each start, as the owner. It promises: all missing files or none; two processes
at once do not meet (an advisory lock); a file that was changed after it was applied is refused, because the schema
that it described is not the one that is there; a database that a newer trueup has migrated is refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from kit.errors import Bug, Refusal
from reconciler.store.pool import SCHEMA, connect, translated

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

# The lock ends with the transaction.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('trueup migrations', 0))"

# The one table that no numbered file can make.
MAKE_RECORD = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)"""

APPLIED = f"SELECT name, sha256 FROM {SCHEMA}.migrations ORDER BY name"  # noqa: S608  # a fixed name

RECORD = f"INSERT INTO {SCHEMA}.migrations (name, sha256) VALUES ($1, $2)"  # noqa: S608  # a fixed name


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> tuple[Migration, ...]:
    """The files of sql/, by number."""
    folder = resources.files("reconciler.store") / "sql"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".sql")), key=lambda each: each.name)
    found = tuple(Migration(each.name, each.read_text(encoding="utf-8")) for each in files)
    for number, migration in enumerate(found, start=1):
        match = _NAME.fullmatch(migration.name)
        if match is None or int(match[1]) != number:
            raise Bug("read the migrations", f"{migration.name} is not number {number}", code="migration_name")
    return found


async def migrate(owner_url: str, migrations: tuple[Migration, ...] | None = None) -> list[str]:
    """Returns the names of the files that it applied."""
    wanted = load_migrations() if migrations is None else migrations
    connection = await connect(owner_url)
    try:
        with translated("migrate the database"):
            async with connection.transaction():
                await connection.execute(LOCK)
                await connection.execute(MAKE_RECORD)
                return await _apply_missing(connection, wanted)
    finally:
        await connection.close()


async def _apply_missing(connection: Connection, wanted: tuple[Migration, ...]) -> list[str]:
    applied = {row["name"]: row["sha256"] for row in await connection.fetch(APPLIED)}
    _check_known(applied, wanted)
    missing = [migration for migration in wanted if migration.name not in applied]
    for migration in missing:
        with translated(f"apply migration {migration.name}"):
            await connection.execute(migration.sql)
            await connection.execute(RECORD, migration.name, migration.sha256)
    return [migration.name for migration in missing]


def _check_known(applied: dict[str, str], wanted: tuple[Migration, ...]) -> None:
    ours = {migration.name: migration.sha256 for migration in wanted}
    for name, sha256 in applied.items():
        if name not in ours:
            raise Refusal(
                "migrate the database",
                f"it has the migration {name}, which this version of trueup does not know",
                fix="run the version that made it, or a newer one",
                code="schema_newer",
            )
        if ours[name] != sha256:
            raise Refusal(
                "migrate the database",
                f"the file {name} was changed after it was applied",
                fix="restore the file and put the change into a new migration",
                code="migration_changed",
            )
