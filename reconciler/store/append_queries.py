"""The statements of an append that has to look before it writes, and the filling in of their arguments.

Called by `reconciler.store.event_log`. Every value is an argument; nobody else's text becomes part of a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.core.commands import Append
from reconciler.store.append_batch import CAUSE_OF
from reconciler.store.placement import Known, Placement, Recorded, Version, claims_of

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

# Takes the lock of the head row and reads what the batch depends on. sql/0039.
LOOK = "SELECT * FROM look_before_append($1, $2, $3, $4, $5, $6, $7)"

# Numbers the events on from the head, chains their hashes, moves the head, notifies. sql/0036.
WRITE = f"SELECT write_events({', '.join(f'${n}' for n in range(1, 21))})"

# The claims of a whole placement. The order does not matter: no two parts touch one row.
MOVE_CLAIMS = """
WITH freed_claims AS (
    DELETE FROM claims USING unnest($1::text[], $2::text[]) AS freed (kind, key)
    WHERE claims.kind = freed.kind AND claims.key = freed.key
)
INSERT INTO claims (kind, key, owner, event_id)
SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[])
ON CONFLICT (kind, key) DO UPDATE SET owner = excluded.owner, event_id = excluded.event_id"""


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
        list({append.fence.lease for append in batch if append.fence}),
    )
    assert row is not None
    return Known(
        row["log_id"],
        row["last_event_id"],
        {command: Recorded(*rest) for command, *rest in row["commands"] or ()},
        {(kind, name): Version(seq, ended) for kind, name, seq, ended in row["aggregates"] or ()},
        {(kind, key): owner for kind, key, owner in row["claims"] or ()},
        dict(row["epochs"] or ()),
    )


async def write(connection: Connection, placement: Placement, texts: Mapping[int, str]) -> None:
    events = placement.events
    recorded = placement.commands.values()
    await connection.execute(
        WRITE,
        min(each.first_event_id for each in recorded),
        [placed.event.aggregate_type for placed in events],
        [placed.event.aggregate_id for placed in events],
        [placed.aggregate_seq for placed in events],
        [placed.event.event_type for placed in events],
        [placed.event.event_version for placed in events],
        [placed.command_id for placed in events],
        *_columns(CAUSE_OF(placed.cause) for placed in events),
        [texts[id(placed.event)] for placed in events],
        list(placement.commands),
        [each.body_hash for each in recorded],
        [each.last_event_id + 1 - each.first_event_id for each in recorded],
    )
    if placement.claims:
        await _move_claims(connection, placement)


def _columns(causes: Iterable[tuple[object, ...]]) -> list[Sequence[object]]:
    return list(zip(*causes, strict=True)) or [()] * 9


async def _move_claims(connection: Connection, placement: Placement) -> None:
    freed = [key for key, (owner, _) in placement.claims.items() if owner is None]
    taken = {key: (owner, event_id) for key, (owner, event_id) in placement.claims.items() if owner is not None}
    await connection.execute(
        MOVE_CLAIMS,
        [key[0] for key in freed],
        [key[1] for key in freed],
        [key[0] for key in taken],
        [key[1] for key in taken],
        [owner for owner, _ in taken.values()],
        [event_id for _, event_id in taken.values()],
    )
