"""The three statements of the event log, and the filling in of their arguments.

Called by `reconciler.store.event_log` only. Every value is an argument; nobody else's text becomes part of a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kit.errors import Refusal
from reconciler.core.commands import Append
from reconciler.ports import EventFilter
from reconciler.store.placement import Known, Placement, Recorded, Version, claims_of
from reconciler.store.rows import COLUMNS
from reconciler.store.tail import CHANNEL

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

# Takes the lock of the head row and reads what the batch depends on. sql/0007.
LOOK = "SELECT * FROM look_before_append($1, $2, $3, $4, $5, $6)"

# Writes a whole placement: every array is one column. The order inside does not matter: no two parts touch one row.
WRITE = f"""
WITH written_events AS (
    INSERT INTO events (event_id, occurred_at, aggregate_type, aggregate_id, aggregate_seq, event_type, event_version,
        command_id, actor_type, actor_id, org_id, source_id, commit_id, path, line, correlation_id, causation_id,
        payload)
    SELECT event_id, statement_timestamp(), aggregate_type, aggregate_id, aggregate_seq, event_type, event_version,
        command_id, actor_type, actor_id, org_id, source_id, commit_id, path, line, correlation_id, causation_id,
        payload::jsonb
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::integer[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::integer[], $15::text[], $16::bigint[],
        $17::text[])
    AS e (event_id, aggregate_type, aggregate_id, aggregate_seq, event_type, event_version, command_id, actor_type,
        actor_id, org_id, source_id, commit_id, path, line, correlation_id, causation_id, payload)
), written_commands AS (
    INSERT INTO commands (command_id, body_hash, first_event_id, last_event_id)
    SELECT * FROM unnest($18::text[], $19::text[], $20::bigint[], $21::bigint[])
), freed_claims AS (
    DELETE FROM claims USING unnest($22::text[], $23::text[]) AS freed (kind, key)
    WHERE claims.kind = freed.kind AND claims.key = freed.key
), taken_claims AS (
    INSERT INTO claims (kind, key, owner, event_id)
    SELECT * FROM unnest($24::text[], $25::text[], $26::text[], $27::bigint[])
    ON CONFLICT (kind, key) DO UPDATE SET owner = excluded.owner, event_id = excluded.event_id
), moved_head AS (
    UPDATE log_head SET last_event_id = $28::bigint
)
SELECT pg_notify('{CHANNEL}', ($28::bigint)::text)"""  # noqa: S608  # fixed names

# The end of the log.
HEAD = "SELECT log_id, last_event_id FROM log_head"


async def look(connection: Connection, batch: Sequence[Append]) -> Known:
    must_be_new: dict[tuple[str, str], bool] = {}
    for append in batch:
        for event in append.events:
            must_be_new.setdefault((event.aggregate_type, event.aggregate_id), False)
        for key, expected in append.expected.items():
            must_be_new[key] = must_be_new.get(key, False) or expected == 0
    claims = {(claim.kind, claim.key) for claim in claims_of(batch)}
    row = await connection.fetchrow(
        LOOK,
        list({append.command_id for append in batch}),
        [key[0] for key in must_be_new],
        [key[1] for key in must_be_new],
        list(must_be_new.values()),
        [key[0] for key in claims],
        [key[1] for key in claims],
    )
    assert row is not None
    return Known(
        row["log_id"],
        row["last_event_id"],
        {command: Recorded(*rest) for command, *rest in row["commands"] or ()},
        {(kind, name): Version(seq, ended) for kind, name, seq, ended in row["aggregates"] or ()},
        {(kind, key): owner for kind, key, owner in row["claims"] or ()},
    )


async def write(connection: Connection, placement: Placement, texts: Mapping[int, str]) -> None:
    events = placement.events
    causes = [placed.cause for placed in events]
    freed = [key for key, (owner, _) in placement.claims.items() if owner is None]
    taken = {key: (owner, event_id) for key, (owner, event_id) in placement.claims.items() if owner is not None}
    await connection.execute(
        WRITE,
        [placed.event_id for placed in events],
        [placed.event.aggregate_type for placed in events],
        [placed.event.aggregate_id for placed in events],
        [placed.aggregate_seq for placed in events],
        [placed.event.event_type for placed in events],
        [placed.event.event_version for placed in events],
        [placed.command_id for placed in events],
        [cause.actor_type for cause in causes],
        [cause.actor_id for cause in causes],
        [cause.org_id for cause in causes],
        [cause.source_id for cause in causes],
        [cause.commit for cause in causes],
        [cause.path for cause in causes],
        [cause.line for cause in causes],
        [cause.correlation_id for cause in causes],
        [cause.causation_id for cause in causes],
        [texts[id(placed.event)] for placed in events],
        list(placement.commands),
        [recorded.body_hash for recorded in placement.commands.values()],
        [recorded.first_event_id for recorded in placement.commands.values()],
        [recorded.last_event_id for recorded in placement.commands.values()],
        [key[0] for key in freed],
        [key[1] for key in freed],
        [key[0] for key in taken],
        [key[1] for key in taken],
        [owner for owner, _ in taken.values()],
        [event_id for _, event_id in taken.values()],
        max(recorded.last_event_id for recorded in placement.commands.values()),
    )


def reading(after: int, limit: int, only: EventFilter, upto: int | None) -> tuple[str, list[object]]:
    """The query has one fixed condition per given field; values are always arguments."""
    given: list[tuple[str, object]] = [("event_id > ${}", after)]
    if upto is not None:
        given.append(("event_id <= ${}", upto))
    if only.aggregate_types:
        given.append(("aggregate_type = ANY(${}::text[])", list(only.aggregate_types)))
    if only.aggregate_id:
        given.append(("aggregate_id = ${}", only.aggregate_id))
    if only.event_types:
        given.append(("event_type = ANY(${}::text[])", list(only.event_types)))
    if only.commit:
        given.append(("commit_id <> '' AND commit_id LIKE ${}", f"{_commit_prefix(only.commit)}%"))
    if only.command_id:
        given.append(("command_id = ${}", only.command_id))
    conditions = " AND ".join(text.format(number) for number, (text, _) in enumerate(given, start=1))
    query = f"SELECT {COLUMNS} FROM events WHERE {conditions} ORDER BY event_id LIMIT ${len(given) + 1}"  # noqa: S608  # fixed texts
    return query, [*(value for _, value in given), limit]


def _commit_prefix(commit: str) -> str:
    if len(commit) < 4 or any(digit not in "0123456789abcdef" for digit in commit):
        raise Refusal(
            f"read the events of commit {commit!r}",
            "a commit is given by at least 4 lower-case hex digits",
            fix="give more of the commit id",
            code="commit_invalid",
        )
    return commit
