"""Follows the hash chain through the files of an archive. Called by `trueup log verify --archive`.

The digests of the manifest say that a file is the one that was written; only the chain says that it holds the log. It
is followed from the first event, file by file, and must come out at the hash that the table has at the last archived
event: then the archive is as good as the table.
"""

from __future__ import annotations

import asyncio
import gzip
import operator
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from reconciler.core.chain import GENESIS, NUMBERS, TEXTS, canonical_event, link
from reconciler.store.archive import invalid, whole_files
from reconciler.store.pool import translated
from reconciler.store.verify import ChainHead, Verdict

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

HASH = "SELECT hash FROM events WHERE event_id = $1"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Row(msgspec.Struct, gc=False):
    """What the chain is made over. The payload stays the text that stands in the file."""

    event_id: int
    occurred_at: datetime
    aggregate_type: str
    aggregate_id: str
    aggregate_seq: int
    event_type: str
    event_version: int
    command_id: str
    actor_type: str
    actor_id: str
    org_id: str
    source_id: str
    commit_id: str
    path: str
    line: int
    correlation_id: str
    causation_id: int
    payload: msgspec.Raw
    hash: str

    @property
    def occurred_us(self) -> int:
        return (self.occurred_at - _EPOCH) // _MICROSECOND


_numbers, _texts = operator.attrgetter(*NUMBERS), operator.attrgetter(*TEXTS)
_decode = msgspec.json.Decoder(_Row).decode


async def verify_archive(connection: Connection, folder: Path, head: ChainHead) -> Verdict:
    """`checked`: how many events the archive holds. `Refusal` for a damaged, missing or foreign file."""
    verdict, last = await asyncio.to_thread(_follow, folder, head.log_id)
    if verdict.first_bad or not verdict.checked:
        return verdict
    with translated("compare the archive with the log"):
        stored = await connection.fetchval(HASH, verdict.checked)
    if stored != last:
        why = f"the archive in {folder} ends with event {verdict.checked}, which has another hash in the log"
        return Verdict(verdict.checked, verdict.last_event_id, verdict.checked, why)
    return verdict


def _follow(folder: Path, log_id: str) -> tuple[Verdict, bytes]:
    event_id, now = 0, GENESIS
    for path in whole_files(folder, log_id):
        for row, stored in _rows(path):
            if row[0][0] != event_id + 1:
                return Verdict(event_id, event_id, event_id + 1, f"event {event_id + 1} is missing in {path}"), now
            event_id += 1
            now = link(now, canonical_event(*row))
            if now != stored:
                why = f"event {event_id} in {path} is not the one that was appended"
                return Verdict(event_id - 1, event_id, event_id, why), now
    return Verdict(event_id, event_id), now


def _rows(path: Path) -> Iterator[tuple[tuple[Sequence[int], Sequence[str], str], bytes]]:
    try:
        with gzip.open(path, "rb") as file:
            for line in file:
                row = _decode(line)
                text = bytes(row.payload).decode()
                yield (_numbers(row), _texts(row), text), bytes.fromhex(row.hash.removeprefix("\\x"))
    except (OSError, EOFError, ValueError) as error:
        raise invalid(path, str(error)) from error
