"""What a commit's message confirms. Read by the planner, the guards, and `signing`.

`Trueup-Confirm-Delete: ENV/APP/volume/NAME` lets a stateful resource go (several, one a line).
`Trueup-Confirm-Deletions: N` lets that many resources go at once.
`Trueup-Approve: PATTERN` and `Trueup-Signed-For: NAME` speak for the commit's signer (docs/SIGNERS.md).
Trailers are the lines of the message's last paragraph, as git itself reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

CONFIRM_DELETE = "Trueup-Confirm-Delete"
CONFIRM_DELETIONS = "Trueup-Confirm-Deletions"
APPROVE = "Trueup-Approve"
SIGNED_FOR = "Trueup-Signed-For"
MESSAGE_CHARS_MAX = 64 * 1024
"""Trailers are at the end; the rest of a long message is not read."""
_TRAILER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]{0,63})[ \t]*:[ \t]*(.{1,300})")


@dataclass(frozen=True, slots=True)
class Confirmations:
    """`deletes`: short identities. `deletions`: the confirmed counts."""

    deletes: frozenset[str] = frozenset()
    deletions: frozenset[int] = frozenset()


NOTHING_CONFIRMED = Confirmations()


def read_confirmations(messages: Iterable[str]) -> Confirmations:
    """Of the messages of all commits since the base."""
    deletes: set[str] = set()
    deletions: set[int] = set()
    for message in messages:
        for key, value in _trailers(message):
            if key == CONFIRM_DELETE.lower():
                deletes.add(value)
            elif key == CONFIRM_DELETIONS.lower() and re.fullmatch(r"[0-9]{1,6}", value):
                deletions.add(int(value))
    return Confirmations(frozenset(deletes), frozenset(deletions))


def values(message: str, key: str) -> list[str]:
    """Of the trailers of one name, in their order."""
    return [value for name, value in _trailers(message) if name == key.lower()]


def _trailers(message: str) -> Iterable[tuple[str, str]]:
    end = message.strip()[-MESSAGE_CHARS_MAX:].replace("\r\n", "\n")
    paragraphs = re.split(r"\n[ \t]*\n", end)
    for line in paragraphs[-1].split("\n"):
        if found := _TRAILER.fullmatch(line.strip()):
            yield found[1].lower(), found[2].strip()
