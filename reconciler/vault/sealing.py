"""Values to ciphertext. Needs a recipient, and no key.

A value that `trueup secret seal` encrypts begins with a line that names the place that it is for. So somebody who may
write one environment's manifests cannot copy another one's ciphertext there and read it in a guest.
"""

from __future__ import annotations

import pyrage

from kit.errors import Refusal
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import PLACE_KEY

_BOUND = b"# trueup-bound-v1 "


def seal(content: bytes, recipient: str, *, armored: bool = False) -> bytes:
    """`content` encrypted with age to a recipient (age1...)."""
    try:
        to = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        why = f"{recipient[:80]!r} is not an age X25519 recipient"
        raise Refusal("seal a secret", why, fix="give the recipient that begins with age1", code="usage") from error
    return bytes(pyrage.encrypt(content, [to], armored=armored))


def sealed_for(value: bytes, secret: ResourceId, key: str, recipient: str) -> str:
    """A value as it stands in a manifest."""
    return seal(bound(value, place_of(secret, key)), recipient, armored=True).decode()


def place_of(secret: ResourceId, key: str) -> str:
    """What a value is bound to. Organisation and project are the source's, not the author's, and stay out of it: they
    choose the key that it is sealed to."""
    return f"{secret.env}/{secret.app}/{secret.name}/{key}"


def bound(value: bytes, place: str) -> bytes:
    """The value with the place that it is for, to be sealed."""
    return _BOUND + place.encode() + b"\n" + value


def place_and_value(plain: bytes) -> tuple[str | None, bytes]:
    """What `bound` put together. No place: it was encrypted with age alone."""
    if not plain.startswith(_BOUND):
        return None, plain
    place, _, value = plain.removeprefix(_BOUND).partition(b"\n")
    return place.decode("utf-8", "replace"), value


def command_for(secret: ResourceId, recipient: str) -> str:
    """What seals a value rightly, to be said to whoever sealed it wrongly."""
    place = f"--env {secret.env} --app {secret.app} --name {secret.name}"
    return f"trueup secret seal --recipient {recipient} {place}"


def sops_command_for(secret: ResourceId, recipient: str) -> str:
    """The same for a SOPS document."""
    place = f"{secret.env}/{secret.app}/{secret.name}"
    return f"sops encrypt --age {recipient}, with {PLACE_KEY}={place} among its values"
