"""The platform's key file: STATE/platform.agekey, 0600. Made at the first start, changed by `trueup secret rotate-key`.

    # comments
    AGE-SECRET-KEY-1...        the newest identity: secrets are sealed to what is derived from it
    AGE-SECRET-KEY-1...        earlier ones, which still open
    TRUEUP-VERSION-KEY-1...    64 hexadecimal digits

The version key makes the version ids of secrets. With another one no version in the log would fit what is opened. A
file with one identity needs no such line: the version key is derived from that identity. A rotation writes it down, so
that it stays when the identity that it came from goes.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyrage

from kit.errors import Refusal
from kit.files import read_private, write_atomically
from reconciler.vault.project_keys import derived

IDENTITIES_MAX = 8
"""A value that opens with none is tried with all, so there are few."""
_INFO = b"trueup secret version v1"
_VERSION_KEY = "TRUEUP-VERSION-KEY-1"
_VERSION_LINE = re.compile(_VERSION_KEY + "([0-9A-F]{64})")
_HEADING = """\
# The platform's key: every secret of the fleet opens with it. The first identity seals, all of them open.
# Keep the version key: with another one, no version of a secret that the log names fits any more.
"""


@dataclass(frozen=True, slots=True, repr=False)
class PlatformKey:
    """`identities`: newest first."""

    identities: tuple[pyrage.x25519.Identity, ...]
    version_key: bytes


def read_or_create(path: Path) -> PlatformKey:
    """The key at `path`; a new one if there is none. `Refusal` when the file is damaged or others may read it: a new
    key in its place would make every committed secret unreadable."""
    try:
        return read(path)
    except FileNotFoundError:
        write_atomically(path, f"{pyrage.x25519.Identity.generate()}\n".encode(), mode=0o600)
        return read(path)


def read(path: Path) -> PlatformKey:
    content = read_private(path)
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    stated = [line for line in lines if line.startswith(_VERSION_KEY)]
    identities = tuple(_identity(line, path) for line in lines if line not in stated)
    if not 0 < len(identities) <= IDENTITIES_MAX or len(set(map(str, identities))) < len(identities):
        raise _damaged(path, f"it holds {len(identities)} age identities; expected 1 to {IDENTITIES_MAX}, each once")
    return PlatformKey(identities, _version_key(stated, identities, path))


def rotate(path: Path) -> PlatformKey:
    """A new identity before all others, in one step that a crash cannot halve. The version key stays."""
    with _locked(path):
        key = read(path)
        if len(key.identities) == IDENTITIES_MAX:
            why, fix = f"it holds {IDENTITIES_MAX} identities already", "drop the earlier ones: secret drop-keys"
            raise Refusal(f"rotate the platform's key {path}", why, fix=fix, code="conflict")
        return _write(path, (pyrage.x25519.Identity.generate(), *key.identities), key.version_key)


def drop_earlier(path: Path, expected: int) -> int:
    """Keeps the newest identity alone. How many went: as many as are expected, or `Refusal`."""
    with _locked(path):
        key = read(path)
        earlier = len(key.identities) - 1
        if earlier != expected:
            why = f"it holds {earlier} earlier keys, not {expected}"
            raise Refusal(f"drop keys of {path}", why, fix="look at the file, and name how many", code="conflict")
        if earlier:
            _write(path, key.identities[:1], key.version_key)
        return earlier


def _write(path: Path, identities: tuple[pyrage.x25519.Identity, ...], version_key: bytes) -> PlatformKey:
    lines = [*map(str, identities), _VERSION_KEY + version_key.hex().upper()]
    write_atomically(path, (_HEADING + "\n".join(lines) + "\n").encode(), mode=0o600)
    return read(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One change at a time. The folder's lock, because the file itself is replaced. What a change that was killed
    left behind goes: it holds keys that somebody may think are dropped."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(folder)


def _version_key(stated: list[str], identities: tuple[pyrage.x25519.Identity, ...], path: Path) -> bytes:
    if not stated and len(identities) == 1:
        return derived(identities[0], _INFO)
    match = _VERSION_LINE.fullmatch(stated[0]) if len(stated) == 1 else None
    if match is None:
        raise _damaged(path, "it needs one whole version key where it was rotated")
    return bytes.fromhex(match[1])


def _identity(line: str, path: Path) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(line)
    except (pyrage.IdentityError, ValueError):
        raise _damaged(path, "a line of it is no age identity") from None


def _damaged(path: Path, why: str) -> Refusal:
    fix = "restore it from its backup; with another key every committed secret has to be encrypted anew"
    return Refusal(f"read the platform's key {path}", why, fix=fix, code="key_damaged")
