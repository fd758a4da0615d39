"""The platform's key, and the only place where a secret's plain value exists in the controller.

`reconciler.bootstrap` opens it once; git sync resolves Secret manifests to version ids with it, and the server makes a
process's secret file with it and seals that to the node's own key. Plain values live in local variables of one call:
they are never logged, stored, cached or put into an exception.

The identity is an age X25519 key in STATE/platform.agekey (0600), made at the first start. Version ids are keyed by it
(HKDF, then HMAC), so that nobody can guess a short value from its id in the log.

A value that `trueup secret seal` encrypts begins with the place that it is for (`bound`). So somebody who may write one
environment's manifests cannot copy another one's ciphertext there and read it in a guest. A value that was encrypted
with age alone has no such line and is taken as it is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyrage
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kit.canonical import canonical_json, digest
from kit.errors import Refusal
from kit.files import write_atomically
from reconciler.core.model import ResourceId, SecretSpec
from reconciler.core.secret_file import (
    HEADER,
    ResolvedSecret,
    SecretManifest,
    SecretRefusal,
    secret_file,
)

VERSION_DIGITS = 24
OFFLINE_PREFIX = "sv-offline-"
_BOUND = b"# trueup-bound-v1 "
_INFO = b"trueup secret version v1"


class Vault:
    """Cheap to call: one value takes some 0.2 ms. It blocks, so call it from a worker thread for many values."""

    def __init__(self, identity: pyrage.x25519.Identity) -> None:
        self._identity = identity
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO)
        self._version_key = derive.derive(str(identity).encode())

    @classmethod
    def open_or_create(cls, path: Path) -> Vault:
        """The identity at `path`; a new one if there is none. `Refusal` when the file is damaged or others may read it:
        a new key in its place would make every committed secret unreadable."""
        try:
            return cls(_read_identity(path))
        except FileNotFoundError:
            identity = pyrage.x25519.Identity.generate()
            write_atomically(path, f"{identity}\n".encode(), mode=0o600)
            return cls(identity)

    @property
    def recipient(self) -> str:
        """age1...: what `trueup secret seal` encrypts to."""
        return str(self._identity.to_public())

    def resolve(self, secret: SecretManifest) -> ResolvedSecret:
        """`ResolveSecret` with the identity: every value decrypts and fits, or a `SecretRefusal`."""
        values = self.values(secret)
        added_bytes = len(secret_file(values)) - len(HEADER)
        spec = SecretSpec(self._version_id(secret.id, values), tuple(sorted(values)), secret.blob)
        return ResolvedSecret(spec, added_bytes)

    def values(self, secret: SecretManifest) -> dict[str, bytes]:
        """The plain values. For immediate use only."""
        return {key: self._decrypt(secret.id, key, armored) for key, armored in sorted(secret.values.items())}

    def secret_file(self, secrets: Sequence[Mapping[str, bytes]]) -> bytes:
        """The secret file of a process: the values of all its secrets together."""
        merged: dict[str, bytes] = {}
        for values in secrets:
            if twice := sorted(set(merged) & set(values)):
                why = "two secrets of the process have the same key"
                raise SecretRefusal(twice[0], why, "rename the key in one of them", "secret_key_twice")
            merged.update(values)
        return secret_file(merged)

    def seal(self, content: bytes, recipient: str) -> bytes:
        """`content` encrypted (binary age) to a node's recipient."""
        return seal(content, recipient)

    def _decrypt(self, secret: ResourceId, key: str, armored: str) -> bytes:
        try:
            plain = pyrage.decrypt(armored.encode(), [self._identity])
        except (pyrage.DecryptError, ValueError):
            why = f"the value of {key} cannot be decrypted with the platform's key"
            fix = f"encrypt it to {self.recipient}, for example with: trueup secret seal"
            raise SecretRefusal(key, why, fix, "secret_undecryptable") from None
        return _unbound(bytes(plain), place_of(secret, key), key)

    def _version_id(self, identity: ResourceId, values: Mapping[str, bytes]) -> str:
        canonical = {key: base64.b64encode(value).decode() for key, value in values.items()}
        message = canonical_json([str(identity), canonical])
        return "sv-" + hmac.new(self._version_key, message, hashlib.sha256).hexdigest()[:VERSION_DIGITS]


def resolve_offline(secret: SecretManifest) -> ResolvedSecret:
    """`ResolveSecret` without the identity, for `trueup plan` and `validate`: the version id is a digest of the
    ciphertext and says so, and values that were only encrypted anew look changed."""
    version = OFFLINE_PREFIX + digest([str(secret.id), secret.values], length=VERSION_DIGITS)
    return ResolvedSecret(SecretSpec(version, tuple(sorted(secret.values)), secret.blob), 0)


def place_of(secret: ResourceId, key: str) -> str:
    """What a value is bound to. Organisation and project are the source's, not the author's, and stay out of it."""
    return f"{secret.env}/{secret.app}/{secret.name}/{key}"


def bound(value: bytes, place: str) -> bytes:
    """The value with the place that it is for, to be sealed."""
    return _BOUND + place.encode() + b"\n" + value


def _unbound(plain: bytes, place: str, key: str) -> bytes:
    if not plain.startswith(_BOUND):
        return plain
    given, _, value = plain.removeprefix(_BOUND).partition(b"\n")
    if given != place.encode():
        why = f"the value of {key} was sealed for another secret or key"
        raise SecretRefusal(key, why, f"seal it for {place} with: trueup secret seal", "secret_elsewhere")
    return value


def seal(content: bytes, recipient: str, *, armored: bool = False) -> bytes:
    """`content` encrypted with age to a recipient (age1...)."""
    try:
        to = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        why = f"{recipient[:80]!r} is not an age X25519 recipient"
        raise Refusal("seal a secret", why, fix="give the recipient that begins with age1", code="usage") from error
    return bytes(pyrage.encrypt(content, [to], armored=armored))


def _read_identity(path: Path) -> pyrage.x25519.Identity:
    attempted = f"read the platform's key {path}"
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor) as handle:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise Refusal(attempted, "others may read it", fix=f"chmod 600 {path}", code="key_exposed")
        text = handle.read(4096)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        return pyrage.x25519.Identity.from_str(" ".join(lines))
    except (pyrage.IdentityError, ValueError):
        fix = "restore it from its backup; with another key every committed secret has to be encrypted anew"
        raise Refusal(attempted, "it does not hold one age identity", fix=fix, code="key_damaged") from None
