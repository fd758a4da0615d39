"""A secret file, sealed for one node and one instance. Written by the controller's sealer, opened by the agent.

    file    = MAGIC, the sealed data key (80 bytes), a nonce (12 bytes), the content under the data key
    key     = 32 random bytes, for this file alone; HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305, base mode)
    content = ChaCha20-Poly1305

What the file is for (`Binding`) is HPKE's `info` and the content's additional data: handed to another node, instance,
app or version it does not open. The node's key is its age identity, whose X25519 key is used under HPKE's own labels.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

import pyrage
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from kit.canonical import canonical_json
from kit.errors import Refusal

FORM = "hpke-v1"
"""What an agent asks for: the one form that there is. Another one is refused by name, so that two versions that do not
fit say so."""
MAGIC = b"trueup-sealed-v1\n"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_KEY_BYTES, _SEALED_KEY_BYTES, _NONCE_BYTES = 32, 80, 12
_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


@dataclass(frozen=True, slots=True)
class Binding:
    """`app`: the app's whole id, with organisation, project and environment."""

    node_id: str
    instance_id: str
    app: str
    version_id: str


def seal_file(content: bytes, recipient: str, binding: Binding) -> bytes:
    """`recipient`: the node's, age1..."""
    info = _info(binding)
    key, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
    sealed_key = _SUITE.encrypt(key, X25519PublicKey.from_public_bytes(_public(recipient)), info=info)
    return MAGIC + sealed_key + nonce + ChaCha20Poly1305(key).encrypt(nonce, content, info)


def is_sealed_file(sealed: bytes) -> bool:
    return sealed.startswith(MAGIC)


def open_file(sealed: bytes, identity: pyrage.x25519.Identity, binding: Binding) -> bytes:
    """`Refusal` when it is for another node, instance, app or version, or was changed."""
    if not is_sealed_file(sealed):
        why = f"it is not of the form {FORM}: controller and agent are not of one version, or it was changed on the way"
        raise Refusal("open a secret file", why, code="secrets_injection_failed")
    info, rest = _info(binding), sealed.removeprefix(MAGIC)
    sealed_key, rest = rest[:_SEALED_KEY_BYTES], rest[_SEALED_KEY_BYTES:]
    private = X25519PrivateKey.from_private_bytes(_raw(str(identity).lower(), "age-secret-key-1"))
    try:
        key = _SUITE.decrypt(sealed_key, private, info=info)
        return ChaCha20Poly1305(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], info)
    except (InvalidTag, ValueError):
        why = "it is not sealed to this node for this instance and version, or it was changed on the way"
        raise Refusal("open a secret file", why, code="secrets_injection_failed") from None


def _info(binding: Binding) -> bytes:
    return canonical_json({"form": FORM, **dataclasses.asdict(binding)})


def _public(recipient: str) -> bytes:
    try:
        return _raw(str(pyrage.x25519.Recipient.from_str(recipient)), "age1")
    except pyrage.RecipientError as error:
        why = f"{recipient[:80]!r} is not an age X25519 recipient"
        raise Refusal("seal a secret file", why, fix="let the node enrol again", code="usage") from error


def _raw(text: str, prefix: str) -> bytes:
    """The 32 bytes in what age writes as Bech32. `pyrage` read it before, its checksum too."""
    number = 0
    letters = text.removeprefix(prefix)[:-6]
    for letter in letters:
        number = number << 5 | _LETTERS.index(letter)
    return (number >> len(letters) * 5 - 256).to_bytes(32, "big")
