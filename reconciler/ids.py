"""New identities, minted by the shell and passed into the cores. `bootstrap` gives them to the handlers and the loops.

PREFIX-ULID in lower case: 48 bits of wall time in milliseconds and 80 random bits, so that ids sort by age. Time only
orders here; it decides nothing. Ids of the same millisecond, or of a clock that went back, still grow.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
_RANDOM_BITS = 80

Ids = Callable[[str], str]
"""Prefix to id: "i" gives "i-01j..."."""


class UlidIds:
    def __init__(self) -> None:
        self._last = 0

    def __call__(self, prefix: str) -> str:
        fresh = ((time.time_ns() // 1_000_000) << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
        self._last = max(fresh, self._last + 1)
        return f"{prefix}-{_encode(self._last)}"


def _encode(value: int) -> str:
    digits = []
    for _ in range(_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
