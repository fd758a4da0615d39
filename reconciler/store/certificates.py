"""The newest certificate that any controller gave to each machine: the table `machine_certificates`.

Called by `reconciler.server.renewals` of every controller, so that each knows of renewals at the others, and by people
who rotate the authority's keys. It is no history: losing a row costs a machine one connection anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg

from reconciler.ports import GivenCertificate
from reconciler.store.pool import borrowed

# The newest wins, in whatever order controllers write. Losing the last half second of it in a crash is harmless.
NOTE = """
INSERT INTO machine_certificates AS known (identity_id, generation, issuer, root, certified_at, not_after)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
ON CONFLICT (identity_id) DO UPDATE SET generation = excluded.generation, issuer = excluded.issuer,
    root = excluded.root, certified_at = excluded.certified_at, not_after = excluded.not_after
WHERE (excluded.generation, excluded.not_after) > (known.generation, known.not_after)"""

OF = """
SELECT identity_id, generation, issuer, root, certified_at, not_after FROM machine_certificates
WHERE identity_id = ANY($1::text[])"""

# Who was given one longest ago is who may have missed something.
OLDEST = """
SELECT identity_id, generation, issuer, root, certified_at, not_after FROM machine_certificates
WHERE not_after > clock_timestamp() - interval '7 days' ORDER BY certified_at, identity_id LIMIT $1"""


class MachineCertificates:
    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool

    async def note(self, given: Iterable[GivenCertificate]) -> None:
        columns = zip(*(_row(each) for each in given), strict=True)
        async with borrowed(self._pool, "note certificates that were given") as connection:
            async with connection.transaction():
                await connection.execute("SET LOCAL synchronous_commit = off")
                await connection.execute(NOTE, *map(list, columns))

    async def of(self, identity_ids: Iterable[str]) -> Mapping[str, GivenCertificate]:
        async with borrowed(self._pool, "read which certificates were given") as connection:
            found = await connection.fetch(OF, list(identity_ids))
        return {row["identity_id"]: GivenCertificate(**row) for row in found}

    async def oldest(self, limit: int) -> list[GivenCertificate]:
        """Of machines that may still come back, who was given one longest ago first."""
        async with borrowed(self._pool, "read which certificates were given") as connection:
            return [GivenCertificate(**row) for row in await connection.fetch(OLDEST, limit)]


def _row(given: GivenCertificate) -> tuple[Any, ...]:
    return (given.identity_id, given.generation, given.issuer, given.root, given.certified_at, given.not_after)
