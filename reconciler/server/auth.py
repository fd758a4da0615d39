"""Who is asking, and may they? Pure: bytes and strings in, an identity or nothing out.

`reconciler.server.guard` calls this before any handler; `trueup token` makes what it checks. A token is
ROLE:NAME:HEX with HEX = HMAC-SHA256 of "ROLE:NAME" under the controller's token key, so nothing has to be stored, a
name cannot be changed without the key, and a new key takes back every token at once.

A forge cannot send a bearer token with a webhook. It gets the token `webhook:SOURCE:HEX` as its secret and sends
either an HMAC-SHA256 of the raw body under it (GitHub, Forgejo, Gitea) or the secret itself (GitLab).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["node", "edge", "operator", "webhook"]
ROLES: tuple[Role, ...] = get_args(Role)

NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
TOKEN_BYTES_MAX = 160
PATH_NAME_OF_ROLE: Mapping[Role, str] = {"node": "node", "edge": "edge", "webhook": "source"}
"""The path parameter that has to be the caller's own name. An operator has none: it may name anything."""


@dataclass(frozen=True, slots=True)
class Identity:
    role: Role
    name: str

    def __str__(self) -> str:
        return f"{self.role}:{self.name}"


def make_token(key: bytes, role: Role, name: str) -> str:
    """The bearer token of (role, name). A name that could be read as another is a ValueError."""
    if role not in ROLES:
        raise ValueError(f"role {role!r} is none of {', '.join(ROLES)}")
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(f"name {name!r} is not lower-case letters, digits, '.', '_' and '-' (at most 63)")
    return f"{role}:{name}:{_mac(key, role, name)}"


def check_token(key: bytes, token: str) -> Identity | None:
    """The identity that the token proves, or None. Takes as long for a nearly right token as for a wrong one."""
    if len(token) > TOKEN_BYTES_MAX or not token.isascii():
        return None
    role, _, rest = token.partition(":")
    name, _, given = rest.partition(":")
    # The MAC is computed whatever the role and name are, so that time tells nothing about which of them was wrong.
    right = hmac.compare_digest(_mac(key, role, name), given)
    for known in ROLES:
        if right and role == known and NAME_PATTERN.fullmatch(name):
            return Identity(known, name)
    return None


def check_authorization(key: bytes, header: str) -> Identity | None:
    """From the value of the Authorization header."""
    scheme, _, token = header.partition(" ")
    return check_token(key, token.strip()) if scheme.lower() == "bearer" else None


def check_webhook(key: bytes, source: str, headers: Mapping[str, str], body: bytes) -> Identity | None:
    """From a forge's headers and the raw body, before anything of it was parsed."""
    if not NAME_PATTERN.fullmatch(source):
        return None
    secret = make_token(key, "webhook", source).encode()
    signature = headers.get("X-Hub-Signature-256", "")
    expected = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    by_signature = hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))
    by_secret = hmac.compare_digest(secret, headers.get("X-Gitlab-Token", "").encode(errors="replace"))
    return Identity("webhook", source) if by_signature or by_secret else None


def allowed(identity: Identity, roles: Collection[str], path_names: Mapping[str, str]) -> bool:
    """Default deny. A node, an edge and a webhook reach only paths that carry exactly their own name, or none."""
    if identity.role not in roles:
        return False
    own = PATH_NAME_OF_ROLE.get(identity.role)
    return own is None or own not in path_names or path_names[own] == identity.name


def _mac(key: bytes, role: str, name: str) -> str:
    return hmac.new(key, f"{role}:{name}".encode(), hashlib.sha256).hexdigest()
