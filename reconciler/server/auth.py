"""Who is asking? Pure: bytes and strings in, an identity or nothing out. May they? See `reconciler.core.permission`.

`reconciler.server.guard` calls this before any handler. What a token is, is said in `reconciler.core.tokens`.

A forge cannot send a bearer token with a webhook. It shares a secret with us and sends either an HMAC-SHA256 of the
raw body under it (GitHub, Gitea, Forgejo, Bitbucket) or the secret itself (GitLab): see `WebhookProof`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from reconciler.core.permission import Identity
from reconciler.core.tokens import NAME_PATTERN, ROLES, Role, make_token, token_mac

__all__ = ["ROLES", "Identity", "Role", "WebhookProof", "check_authorization", "check_token", "make_token"]

TOKEN_BYTES_MAX = 160
SIGNATURE_HEADERS = (
    ("X-Hub-Signature-256", "sha256="),  # GitHub; Gitea and Forgejo as well
    ("X-Hub-Signature", "sha256="),  # Bitbucket; GitHub's has SHA-1 in it and does not count
    ("X-Gitea-Signature", ""),
    ("X-Forgejo-Signature", ""),
)


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


class WebhookProof:
    """Fed with the raw body as it comes, so that nothing of it has to be kept; `holds` when all of it was fed.

    `secrets`: any of them will do, so that one can be replaced by the next. All are tried, in the same time.
    """

    def __init__(self, secrets: Sequence[bytes], headers: Mapping[str, str]) -> None:
        self._secrets = secrets
        self._signatures = [_hex_of(headers, name, prefix) for name, prefix in SIGNATURE_HEADERS if name in headers]
        self._token = headers.get("X-Gitlab-Token", "").encode(errors="replace")
        self._macs = [hmac.new(secret, digestmod=hashlib.sha256) for secret in secrets]

    @property
    def offered(self) -> bool:
        """There is something to check at all."""
        return bool(self._signatures or self._token)

    def feed(self, chunk: bytes) -> None:
        if self._signatures:
            for mac in self._macs:
                mac.update(chunk)

    def holds(self) -> bool:
        right = [hmac.compare_digest(secret, self._token) for secret in self._secrets if self._token]
        right += [hmac.compare_digest(mac.digest(), given) for mac in self._macs for given in self._signatures]
        return any(right)


def _hex_of(headers: Mapping[str, str], name: str, prefix: str) -> bytes:
    """The signature that a header holds; what is none is equal to none."""
    text = headers[name].strip()
    try:
        return bytes.fromhex(text.removeprefix(prefix)) if text.startswith(prefix) else b""
    except ValueError:
        return b""
