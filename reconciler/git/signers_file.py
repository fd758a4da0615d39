"""The operator's signers file on disk, and the GPG keys that it names. Made by `bootstrap` and the command line.

It is read anew for every commit that is judged, so that a key that was stolen is out as soon as the file says so,
without a restart. A file that cannot be read now is a `Transient`, a wrong one a `Refusal`: either way nothing is
applied until it is mended.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from kit.errors import Transient
from reconciler.core.signing.policy import Policy
from reconciler.core.signing.policy_file import invalid, read_policy
from reconciler.git.gpg import GpgKeyring

FILE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Trust:
    """`keyring`: None when no signer has a GPG key."""

    policy: Policy
    keyring: GpgKeyring | None = None


class SignersFile:
    """Not safe for two threads at once. Blocks on the disk, and on gpg when a GPG key is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_as = b""
        self._trust: Trust | None = None

    def trust(self) -> Trust:
        """What the file says now."""
        text = self._read(self.path)
        policy = read_policy(self._decoded(text), str(self.path))
        armoured = {
            key.fingerprint: self._read(self.path.parent / key.file)
            for key in policy.keys.values()
            if key.kind == "gpg"
        }
        read_as = hashlib.sha256(
            b"".join(hashlib.sha256(each).digest() for each in (text, *armoured.values()))
        ).digest()
        if self._trust is None or self._read_as != read_as:
            self._trust = Trust(policy, GpgKeyring(armoured) if armoured else None)
            self._read_as = read_as
        return self._trust

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            fix = "make it readable; until then no commit is applied"
            raise Transient(f"read the signers {path}", str(error), fix=fix, code="signers_unreadable") from error
        if len(content) > FILE_BYTES_MAX:
            raise invalid(str(path), f"it has more than {FILE_BYTES_MAX} bytes")
        return content

    def _decoded(self, text: bytes) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise invalid(str(self.path), str(error)) from error
