"""One byte form of a JSON document, so that equal documents have equal digests."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(document: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8. Floats are allowed but NaN and infinity are not."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(document: Any, *, length: int = 64) -> str:
    """The first `length` hex digits of the SHA-256 of the canonical form."""
    return hashlib.sha256(canonical_json(document)).hexdigest()[:length]
