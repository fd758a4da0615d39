"""Takes out of a text what must not be read in a log. Called by `kit.logs` for every line, whoever writes it.

The last line of defence: who logs takes care what he logs, and the text of somebody else's exception may still quote a
header or an address. What is recognised is what trueup itself hands out or is given (tokens, webhook signatures, age
keys, PEM keys), what follows an authorisation scheme or a word such as `password=`, and the credentials in a URL. Names
and numbers stay readable. `reconciler.server.problems` asks here too: the reason of an error goes to a client.
"""

from __future__ import annotations

import re
from typing import Any

BLANK = "[blanked]"
SECRET_WORDS = (
    *("secret", "token", "password", "passwd", "authorization", "private", "plaintext", "credential", "cookie"),
)
DEPTH_MAX = 6

_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic|digest|negotiate)\s+(?!realm=)[A-Za-z0-9+/=._~:-]{8,}"), rf"\1 {BLANK}"),
    (re.compile(r"\b(operator|node|edge|webhook):([a-z0-9._-]{1,63}):[0-9A-Fa-f]{32,}"), rf"\1:\2:{BLANK}"),
    (re.compile(r"(?i)\b(AGE-SECRET-KEY-(?:PQ-)?)[0-9A-Z]{8,}"), rf"\1{BLANK}"),
    (re.compile(r"\b(gh[opsur]_|github_pat_|glpat-|trueup_)[A-Za-z0-9_-]{8,}"), rf"\1{BLANK}"),
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*KEY-----|\Z)", re.DOTALL), BLANK),
    (re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@'\"]{1,512}@", re.IGNORECASE), rf"\1{BLANK}@"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@'\":]{0,256}:[^\s@'\"]{1,512}@"), rf"\1{BLANK}@"),
    (re.compile(r"(?i)\b(sha256=)[0-9a-f]{64}\b"), rf"\1{BLANK}"),
    (
        re.compile(
            r"(?i)((?:authorization|cookie|credentials?|passwd|password|secret|token|(?:api|access|private)[_-]?key)"
            r"['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer|digest|negotiate|token)\s+)?[^\s'\"&,;{}<>]{8,}"
        ),
        rf"\1{BLANK}",
    ),
    (
        re.compile(r"(?i)([?&](?:[a-z_-]*(?:token|secret|password|signature|key))=)[^\s&'\"]+"),
        rf"\1{BLANK}",
    ),
)


def redacted(text: str) -> str:
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def redacted_field(name: str, value: Any, depth: int = 0) -> Any:
    """A field of a log line: blank when its name says that it is secret, otherwise cleaned however deep it lies."""
    if any(word in name.lower() for word in SECRET_WORDS):
        return BLANK
    if depth >= DEPTH_MAX:
        return redacted(str(value))
    if isinstance(value, dict):
        return {str(key): redacted_field(str(key), each, depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redacted_field("", each, depth + 1) for each in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redacted(value.decode(errors="replace") if isinstance(value, bytes) else str(value))
