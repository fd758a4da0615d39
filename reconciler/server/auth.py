"""Who is asking, and may they? Pure: bytes and strings in, an identity or nothing out.

`reconciler.server.guard` calls this before any handler. What a token is, is said in `reconciler.core.tokens`.

A forge cannot send a bearer token with a webhook. It gets the token `webhook:SOURCE:HEX` as its secret and sends
either an HMAC-SHA256 of the raw body under it (GitHub, Forgejo, Gitea) or the secret itself (GitLab).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reconciler.core.tokens import NAME_PATTERN, ROLES, Role, make_token, token_mac

__all__ = ["ROLES", "Identity", "Role", "allowed", "check_authorization", "check_token", "check_webhook", "make_token"]

TOKEN_BYTES_MAX = 160
PATH_NAME_OF_ROLE: Mapping[Role, str] = {"node": "node", "edge": "edge", "webhook": "source"}
"""The path parameter that has to be the caller's own name. An operator has none: it may name anything."""


@dataclass(frozen=True, slots=True)
class Identity:
    role: Role
    name: str

    def __str__(self) -> str:
        return f"{self.role}:{self.name}"


def check_token(key: bytes, token: str) -> Identity | None:
    """The identity that the token proves, or None. Takes as long for a nearly right token as for a wrong one."""
    if len(token) > TOKEN_BYTES_MAX or not token.isascii():
        return None
    role, _, rest = token.partition(":")
    name, _, given = rest.partition(":")
    # The MAC is computed whatever the role and name are, so that time tells nothing about which of them was wrong.
    right = hmac.compare_digest(token_mac(key, role, name), given)
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
