"""A project's own age key, derived from the platform's.

Called by `reconciler.vault.opening` and by the commands that seal. For ever: what was sealed to a derived recipient
opens only as long as the same parts give the same key; tests/unit/vault/test_project_keys.py writes some down.

    secret    = HKDF-SHA256(key = the platform's identity as text, no salt, info, 32 bytes)
    info      = part(LABEL) part(org) part(project),  part(x) = length of x in 2 bytes, big-endian, then x
    identity  = the secret as an age X25519 identity: Bech32, in capitals, of AGE-SECRET-KEY-

The lengths keep `a` + `bc` apart from `ab` + `c`. Who has a derived identity learns neither the platform's nor another
project's from it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyrage
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_LABEL = "trueup project identity v1"
_PREFIX = "age-secret-key-"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def project_identity(platform: pyrage.x25519.Identity, org: str, project: str) -> pyrage.x25519.Identity:
    """The key that opens the secrets of one project, and of no other."""
    info = b"".join(len(part).to_bytes(2, "big") + part for part in (_LABEL.encode(), org.encode(), project.encode()))
    secret = derived(platform, info)
    return pyrage.x25519.Identity.from_str(_bech32(_PREFIX, secret).upper())


def derived(platform: pyrage.x25519.Identity, info: bytes) -> bytes:
    """32 bytes for one use, which `info` names."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(str(platform).encode())


def _bech32(prefix: str, content: bytes) -> str:
    """As BIP 173 has it. The libraries read age identities, and write none from bytes."""
    values = list(_in_fives(content))
    expanded = [ord(each) >> 5 for each in prefix] + [0] + [ord(each) & 31 for each in prefix]
    rest = _polymod([*expanded, *values, 0, 0, 0, 0, 0, 0]) ^ 1
    checksum = [(rest >> 5 * (5 - position)) & 31 for position in range(6)]
    return prefix + "1" + "".join(_ALPHABET[each] for each in [*values, *checksum])


def _in_fives(content: bytes) -> Iterator[int]:
    bits = "".join(f"{each:08b}" for each in content)
    for start in range(0, len(bits), 5):
        yield int(bits[start : start + 5].ljust(5, "0"), 2)


def _polymod(values: list[int]) -> int:
    state = 1
    for value in values:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for position, each in enumerate(_GENERATOR):
            state ^= each if top >> position & 1 else 0
    return state
