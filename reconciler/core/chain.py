"""The hash chain over the log: what a hash is made of. Pure.

    h(0) = 32 zero bytes;  h(n) = SHA-256(0x00 || h(n-1) || canonical form of event n)

The canonical form is one text in UTF-8: the format's number, six numbers and eleven lengths in characters, each
followed by a colon, then the eleven texts and the payload one after the other. The lengths make it unambiguous. The
payload is the text that is stored, to the letter.

The append path makes the same in SQL (store/sql/0032, 0033 and 0043), under the lock that orders the events;
`reconciler.store.verify` makes it here, from the rows. A test holds the two together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

FORMAT = 1
GENESIS = bytes(32)
NUMBERS = ("event_id", "occurred_us", "aggregate_seq", "event_version", "line", "causation_id")
TEXTS = (
    "aggregate_type",
    "aggregate_id",
    "event_type",
    "command_id",
    "actor_type",
    "actor_id",
    "org_id",
    "source_id",
    "commit_id",
    "path",
    "correlation_id",
)


def canonical_event(numbers: Sequence[int], texts: Sequence[str], payload: str) -> bytes:
    """`numbers` and `texts` in the order of NUMBERS and TEXTS; `occurred_us`: microseconds since 1970, UTC."""
    start = ":".join(map(str, (FORMAT, *numbers, *map(len, texts), "")))
    return (start + "".join(texts) + payload).encode()


def link(before: bytes, canonical: bytes) -> bytes:
    """The hash of an event, from the hash of the one before it."""
    return hashlib.sha256(b"\x00" + before + canonical).digest()
