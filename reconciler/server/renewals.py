"""Which certificate each machine was given last, by this controller or another.

`reconciler.server.machines` tells of each one; `reconciler.server.standing` asks, for a stream that was opened with a
certificate that has ended since, whether its machine has a newer one; `trueup ca status` shows who has an old one.
Written behind: a certificate is not refused because the database is away, and what is not written yet is known here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from reconciler.ports import CertificateRecords, GivenCertificate

SHOWN_MAX = 1000


class Renewals:
    """`records`: shared by all controllers; None: of this one only."""

    def __init__(self, records: CertificateRecords | None) -> None:
        self._records = records
        self._given: dict[str, GivenCertificate] = {}
        self._unwritten: dict[str, GivenCertificate] = {}

    def note(self, given: GivenCertificate) -> None:
        """One per machine of the fleet is kept, which bounds it."""
        self._given[given.identity_id] = self._unwritten[given.identity_id] = given

    async def flush(self) -> None:
        """What cannot be written now is kept for the next time."""
        if self._records is None or not self._unwritten:
            return
        written, self._unwritten = self._unwritten, {}
        try:
            await self._records.note(written.values())
        except BaseException:
            self._unwritten = written | self._unwritten
            raise

    async def of(self, identity_ids: Collection[str]) -> Mapping[str, GivenCertificate]:
        """Those that are known, whoever gave them."""
        shared = await self._records.of(identity_ids) if self._records is not None and identity_ids else {}
        here = {name: self._given[name] for name in identity_ids if name in self._given}
        return {**shared, **{name: newer(each, shared.get(name)) for name, each in here.items()}}

    async def oldest(self) -> list[GivenCertificate]:
        """Who was given one longest ago first; at most SHOWN_MAX."""
        if self._records is not None:
            await self.flush()
            return await self._records.oldest(SHOWN_MAX)
        return sorted(self._given.values(), key=lambda each: (each.certified_at, each.identity_id))[:SHOWN_MAX]


def newer(one: GivenCertificate, other: GivenCertificate | None) -> GivenCertificate:
    if other is None:
        return one
    return max(one, other, key=lambda each: (each.generation, each.not_after))
