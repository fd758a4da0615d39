"""OpenPGP signatures: what may be handed to gpgv, and what its answer means.

Called by `reconciler.git.gpg`. gpgv takes whole streams of packets (several signatures, compressed data), and it ends
with 0 for revoked and expired keys too; so exactly one signature packet goes in, and the status lines decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.core.signing.armour import SignatureUnreadable, dearmour, decode64

_SIGNATURE_TAG = 2
_BINARY_DOCUMENT = 0
_HASHES = frozenset({8, 9, 10})
"""SHA-256, SHA-384, SHA-512."""
Outcome = Literal["good", "bad", "unknown", "revoked", "expired"]


@dataclass(frozen=True, slots=True)
class GpgAnswer:
    """`key`: the fingerprint of the primary key, or for `unknown` whatever gpgv says about the key; may be ""."""

    outcome: Outcome
    key: str


def read_packet(armoured: bytes) -> bytes:
    """The one signature packet of an armoured signature. Raises `SignatureUnreadable`."""
    lines = dearmour(armoured, "PGP SIGNATURE")
    if b"" not in lines:
        raise SignatureUnreadable("no empty line ends the headers of its armour")
    body = [line for line in lines[lines.index(b"") + 1 :] if line]
    if body and body[-1].startswith(b"=") and len(body[-1]) == 5:
        body.pop()  # the checksum of 24 bits: the signature itself says more
    packet = decode64(body)
    content = _content(packet)
    if len(content) < 4 or content[0] != 4:
        raise SignatureUnreadable("it is no OpenPGP signature of version 4")
    if content[1] != _BINARY_DOCUMENT:
        raise SignatureUnreadable("it is no signature over a document")
    if content[3] not in _HASHES:
        raise SignatureUnreadable("its hash is weak or unknown; SHA-256, SHA-384 and SHA-512 are accepted")
    return packet


def _content(packet: bytes) -> bytes:
    """Of the one packet, whose length must be that of the whole."""
    if len(packet) < 2 or not packet[0] & 0x80:
        raise SignatureUnreadable("it is no OpenPGP packet")
    new = bool(packet[0] & 0x40)
    tag = packet[0] & 0x3F if new else (packet[0] >> 2) & 0x0F
    start, length = _new_length(packet) if new else _old_length(packet)
    if tag != _SIGNATURE_TAG or start + length != len(packet):
        raise SignatureUnreadable("it is not exactly one OpenPGP signature")
    return packet[start:]


def _old_length(packet: bytes) -> tuple[int, int]:
    size = {0: 1, 1: 2, 2: 4}.get(packet[0] & 0x03)
    if size is None:
        raise SignatureUnreadable("its length is not given")
    return 1 + size, int.from_bytes(packet[1 : 1 + size], "big")


def _new_length(packet: bytes) -> tuple[int, int]:
    first = packet[1]
    if first < 192:
        return 2, first
    if first < 224 and len(packet) > 2:
        return 3, ((first - 192) << 8) + packet[2] + 192
    if first == 255:
        return 6, int.from_bytes(packet[2:6], "big")
    raise SignatureUnreadable("its length is not given")


def read_status(status: str) -> GpgAnswer:
    """Of one run of gpgv with --status-fd. Everything but one good signature by one valid key is something else."""
    words = [line.split()[1:] for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    named = {line[0]: line[1:] for line in words if line}
    verdicts = [line[0] for line in words if line and line[0] in _VERDICTS]
    valid = [line for line in words if line and line[0] == "VALIDSIG"]
    key = valid[0][-1] if len(valid) == 1 else ""
    if verdicts == ["GOODSIG"] and len(key) == 40:
        return GpgAnswer("good", key)
    if verdicts == ["REVKEYSIG"]:
        return GpgAnswer("revoked", key)
    if verdicts in (["EXPKEYSIG"], ["EXPSIG"]):
        return GpgAnswer("expired", key)
    if verdicts == ["ERRSIG"] and "NO_PUBKEY" in named:
        return GpgAnswer("unknown", named["NO_PUBKEY"][0] if named["NO_PUBKEY"] else "")
    return GpgAnswer("bad", key)


_VERDICTS = frozenset({"GOODSIG", "BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG"})
