"""Bearer tokens: ROLE:NAME:HEX with HEX = HMAC-SHA256 of "ROLE:NAME" under the controller's token key. Pure.

Made by `trueup token` and `reconciler.bootstrap`, checked by `reconciler.server.auth`. Nothing has to be stored, a name
cannot be changed without the key, and a new key takes back every token at once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Literal, get_args

Role = Literal["node", "edge", "operator", "webhook"]
ROLES: tuple[Role, ...] = get_args(Role)

NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


def make_token(key: bytes, role: Role, name: str) -> str:
    """The bearer token of (role, name). A name that could be read as another is a ValueError."""
    if role not in ROLES:
        raise ValueError(f"role {role!r} is none of {', '.join(ROLES)}")
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(f"name {name!r} is not lower-case letters, digits, '.', '_' and '-' (at most 63)")
    return f"{role}:{name}:{token_mac(key, role, name)}"


def token_mac(key: bytes, role: str, name: str) -> str:
    return hmac.new(key, f"{role}:{name}".encode(), hashlib.sha256).hexdigest()
