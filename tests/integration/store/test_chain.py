"""L5: after any edit, removal, insert or swap, `verify` names the first bad event; exported heads show the rest."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from kit.errors import Refusal
from reconciler.cli.main import main
from reconciler.core.commands import Appended, Claim
from reconciler.core.events import Cause, NewEvent
from reconciler.store.heads import check_heads, export_head, private_key, read_heads
from reconciler.store.identity import give_new_id, restored
from reconciler.store.migrate import load_migrations, migrate
from reconciler.store.pool import connect
from reconciler.store.roles import APP_ROLE, MIGRATE_ROLE, prepare_embedded
from reconciler.store.server import SUPERUSER
from reconciler.store.store import Store
from reconciler.store.verify import Verdict, read_head, verify
from tests.integration.store.building import command, node_event
from tests.postgres import Cluster
from tests.unit.projections.samples import PAYLOADS, new_event

EVENTS = 12


@pytest_asyncio.fixture
async def owner(superuser_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Past every guard, as somebody who owns the machine is."""
    connection = await connect(superuser_url)
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def filled(store: Store) -> Store:
    await store.log.append([command(node_event(f"node-{n}")) for n in range(EVENTS - 2)], atomic=False)
    await store.log.append([command(node_event("a"), node_event("ü\x1f:\n" + "ß" * 9))])
    return store


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "head.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    return path


async def test_L5_python_and_sql_make_the_same_chain_for_every_kind_of_event(
    store: Store, owner: asyncpg.Connection[Any]
) -> None:
    odd = Cause("user", "Zoë \u0001", "o|r:g", "", "abcd", "a\nb\u2028:3", 7, "ä" * 3, 4)
    numbers = [0.1, 1e-7, 1e22, -0.0, 12345678901234567890]
    events = [new_event(event_type) for event_type in sorted(PAYLOADS)]
    await store.log.append([command(*events)])
    await store.log.append([command(node_event("one"))])  # the way of a single command
    await store.log.append([command(node_event("claim"), take=[Claim("hostname", "a:1", "x")])])  # the longer way
    await owner.execute(
        "SELECT trueup.append_one('odd', 'h', '', 0, NULL, 0, 'node', $1, 'node.x', 1, $2, $3, $4, $5, $6, $7, $8, $9,"
        " $10, $11)",
        "n:\x02",
        *(odd.actor_type, odd.actor_id, odd.org_id, odd.source_id, odd.commit, odd.path, odd.line),
        *(odd.correlation_id, odd.causation_id),
        f'{{"z": {numbers}, "é": "\\ud83d\\ude00\\u0007\\"\\\\", "a": null}}',
    )
    count = len(events) + 3
    assert await verify(owner) == Verdict(count, count)


TAMPERING: Sequence[tuple[str, int, str]] = [
    ("UPDATE events SET payload = (payload::text || ' ')::json WHERE event_id = 2", 2, "is not the one"),
    (
        "UPDATE events SET payload = jsonb_set(payload::jsonb, '{reason}', '\"other\"') WHERE event_id = 5",
        5,
        "is not the one",
    ),
    ("UPDATE events SET commit_id = 'abcd' WHERE event_id = 1", 1, "is not the one"),
    ("UPDATE events SET occurred_at = occurred_at + interval '1 microsecond' WHERE event_id = 9", 9, "is not the one"),
    ("UPDATE events SET actor_id = actor_id || org_id, org_id = '' WHERE event_id = 3", 3, "is not the one"),
    ("UPDATE events SET hash = sha256('x') WHERE event_id = 7", 7, "is not the one"),
    ("DELETE FROM events WHERE event_id = 4", 4, "is missing"),
    (f"DELETE FROM events WHERE event_id = {EVENTS}", EVENTS, "is missing"),
    ("DELETE FROM events WHERE event_id = 1", 1, "is missing"),
    (
        "UPDATE events SET event_id = CASE event_id WHEN 6 THEN -6 ELSE event_id END; UPDATE events SET event_id = 6"
        " WHERE event_id = 8; UPDATE events SET event_id = 8 WHERE event_id = -6",
        6,
        "is not the one",
    ),
    ("UPDATE log_head SET head_hash = sha256('x')", EVENTS, "does not carry"),
]


@pytest.mark.parametrize(("statement", "first_bad", "why"), TAMPERING)
async def test_L5_the_first_bad_event_is_named(
    filled: Store, owner: asyncpg.Connection[Any], statement: str, first_bad: int, why: str
) -> None:
    assert await verify(owner) == Verdict(EVENTS, EVENTS)
    await owner.execute(statement)
    verdict = await verify(owner)
    assert (verdict.first_bad, verdict.checked) == (
        first_bad,
        min(first_bad, EVENTS + 1) - (0 if "carry" in why else 1),
    )
    assert why in verdict.why


async def test_L5_a_cut_or_rewritten_log_shows_beside_an_exported_head(
    filled: Store, owner: asyncpg.Connection[Any], key_file: Path, tmp_path: Path
) -> None:
    path, key = tmp_path / "heads", private_key(key_file)
    export_head(path, key, await read_head(owner), "now")
    heads = read_heads(path, key.public_key())
    assert await check_heads(owner, [each.head for each in heads], await read_head(owner)) == (0, "")
    await owner.execute(
        "DELETE FROM events WHERE event_id > 10; UPDATE log_head SET last_event_id = 10,"
        " head_hash = (SELECT hash FROM events WHERE event_id = 10)"
    )
    assert await verify(owner) == Verdict(10, 10), "the chain itself cannot see it"
    assert (await check_heads(owner, [each.head for each in heads], await read_head(owner)))[0] == 11
    await owner.execute("DELETE FROM commands WHERE first_event_id > 10")
    await filled.log.append([command(node_event("new"), node_event("new"))])
    assert await verify(owner) == Verdict(EVENTS, EVENTS)
    assert (await check_heads(owner, [each.head for each in heads], await read_head(owner)))[0] == EVENTS


async def test_L5_verification_goes_on_from_a_known_head(filled: Store, owner: asyncpg.Connection[Any]) -> None:
    head = await read_head(owner)
    await filled.log.append([command(node_event("later"))])
    assert await verify(owner, after=head.event_id, hash_before=head.hash) == Verdict(1, EVENTS + 1)
    assert await verify(owner, upto=3) == Verdict(3, 3)
    assert (await verify(owner, after=head.event_id, hash_before=bytes(32))).first_bad == EVENTS + 1


async def test_the_file_of_heads_itself_cannot_be_changed(
    filled: Store, owner: asyncpg.Connection[Any], key_file: Path, tmp_path: Path
) -> None:
    path, key = tmp_path / "heads", private_key(key_file)
    for number in range(3):
        export_head(path, key, await read_head(owner), f"t{number}")
    lines = path.read_bytes().splitlines(keepends=True)
    for changed, line in (
        ([lines[0].replace(b"t0", b"t9"), *lines[1:]], 1),
        ([lines[0], lines[2]], 2),
        ([lines[1], lines[0], lines[2]], 1),
        ([*lines, b"{}\n"], 4),
    ):
        path.write_bytes(b"".join(changed))
        with pytest.raises(Refusal, match=f"heads:{line}"):
            read_heads(path, key.public_key())


async def test_a_new_identity_is_recorded_and_excuses_only_what_the_backup_lacked(
    filled: Store, owner: asyncpg.Connection[Any], key_file: Path, tmp_path: Path
) -> None:
    path, key = tmp_path / "heads", private_key(key_file)
    before = await read_head(owner)
    export_head(path, key, before, "now")
    await owner.execute(
        "DELETE FROM events WHERE event_id > 10; UPDATE log_head SET last_event_id = 10,"
        " head_hash = (SELECT hash FROM events WHERE event_id = 10)"
    )
    after = await give_new_id(owner, "the disk was lost", "eve")
    assert (after.log_id != before.log_id, after.epoch, after.event_id) == (True, 2, 11)
    (event,) = await filled.log.read(10, limit=2)
    assert (event.event_type, event.cause.actor_id) == ("log.restored", "eve")
    assert event.payload == restored(after.log_id, before.log_id, 2, "the disk was lost").payload
    assert (await filled.log.head()).log_id == after.log_id, "readers with an older cursor are told (410)"
    assert await verify(owner) == Verdict(11, 11)
    heads = read_heads(path, key.public_key())
    assert await check_heads(owner, [each.head for each in heads], after) == (0, "")
    assert isinstance((await filled.log.append([command(NewEvent(*_node()))]))[0], Appended)


async def test_a_log_from_before_the_chain_gets_its_hashes(cluster: Cluster) -> None:
    name, migrations = "trueup_unchained", load_migrations()
    before = tuple(each for each in migrations if each.number < "0031")
    await prepare_embedded(cluster.url(SUPERUSER, "postgres"), name)
    try:
        await migrate(cluster.url(MIGRATE_ROLE, name), before)
        await cluster.run(
            "INSERT INTO trueup.events SELECT n, now(), 'node', 'n', n, 'node.x', 1, 'c-' || n, 'system', 'x', 'o', '',"
            " '', '', 0, '', 0, jsonb_build_object('é', n) FROM generate_series(1, 50) n; UPDATE trueup.log_head SET"
            " last_event_id = 50",
            name,
        )
        await migrate(cluster.url(MIGRATE_ROLE, name), migrations)
        connection = await connect(cluster.url(APP_ROLE, name))
        assert await verify(connection) == Verdict(50, 50)
        await connection.close()
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await cluster.run("DELETE FROM trueup.events", name)
    finally:
        await cluster.run(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_command_line_verifies_exports_and_finds_a_cut_log(
    store_settings: Any, cluster: Any, database: str, superuser_url: str, key_file: Path, tmp_path: Path
) -> None:
    database_url = ["--database-url", superuser_url]
    heads, key = str(tmp_path / "heads"), str(key_file)
    assert main(["log", "new-id", "--reason", "a drill", *database_url]) == 0
    assert main(["log", "export-head", "--key", key, "--output", heads, *database_url]) == 0
    assert main(["log", "verify", "--from-head", heads, "--key", key, *database_url]) == 0
    assert main(["log", "verify", "--heads", heads, "--key", key, "--output", "json", *database_url]) == 0
    assert main(["log", "verify", "--heads", heads, *database_url]) == 2
    cut = "SET session_replication_role = replica; DELETE FROM trueup.events; UPDATE trueup.log_head SET"
    cut += " last_event_id = 0, head_hash = decode(repeat('00', 32), 'hex')"
    asyncio.run(cluster.run(cut, database))
    assert main(["log", "verify", *database_url]) == 0
    assert main(["log", "verify", "--heads", heads, "--key", key, *database_url]) == 1


def _node() -> tuple[str, str, str, dict[str, str]]:
    event = node_event("after")
    return event.aggregate_type, event.aggregate_id, event.event_type, dict(event.payload)
