"""gpg and gpgv, run with a keyring of our own: the operator's public keys and nothing else.

`signers_file` makes a `GpgKeyring` out of armoured keys, `signatures` verifies with it from several threads. No user's
configuration, agent, network or web of trust is asked: a key is trusted because the operator names its fingerprint.
The keyring lives in a private temporary folder and goes with its object. Debian: gpg, gpgv.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from kit.errors import Refusal, Transient
from reconciler.core.signing.openpgp import GpgAnswer, read_status

PROGRAM_TIMEOUT_S = 20.0
_GPG = ("gpg", "--no-options", "--batch", "--no-tty", "--quiet", "--no-autostart", "--disable-dirmngr")
_FIX = "give the file that gpg --armor --export FINGERPRINT writes, and the fingerprint of its primary key"


class GpgKeyring:
    def __init__(self, armoured: Mapping[str, bytes]) -> None:
        """`armoured`: the public key of each fingerprint. `Refusal` ("signers_invalid") when one holds another key."""
        self._home = Path(tempfile.mkdtemp(prefix="trueup-keys-"))
        weakref.finalize(self, shutil.rmtree, self._home, ignore_errors=True)
        self._keyring = self._home / "signers.gpg"
        for fingerprint, content in armoured.items():
            self._add(fingerprint, content)
        self._keyring.write_bytes(self._gpg("--export"))

    def verify(self, packet: bytes, payload: bytes) -> GpgAnswer:
        """`packet`: from `openpgp.read_packet`. Blocks for some milliseconds."""
        options = ["--homedir", str(self._home), "--keyring", str(self._keyring), "--weak-digest", "SHA1"]
        with tempfile.NamedTemporaryFile(dir=self._home, suffix=".sig") as file:
            file.write(packet)
            file.flush()
            command = ["gpgv", *options, "--status-fd", "1", "--", file.name, "-"]
            said = self._run("verify a GPG signature", command, payload)
        return read_status(said.stdout.decode("utf-8", "replace"))

    def _add(self, fingerprint: str, armoured: bytes) -> None:
        listed = self._listed(self._gpg("--with-colons", "--show-keys", stdin=armoured))
        if listed != [fingerprint]:
            why = f"its file holds {', '.join(listed) if listed else 'no public key'}"
            raise Refusal(f"read the GPG key {fingerprint}", why, fix=_FIX, code="signers_invalid")
        self._gpg("--import", stdin=armoured)
        if fingerprint not in self._listed(self._gpg("--with-colons", "--list-keys")):
            raise Refusal(f"read the GPG key {fingerprint}", "gpg does not accept it", fix=_FIX, code="signers_invalid")

    def _listed(self, colons: bytes) -> list[str]:
        """The fingerprints of the primary keys in gpg's listing."""
        rows = [line.split(":") for line in colons.decode("utf-8", "replace").splitlines()]
        return [
            after[9]
            for row, after in itertools.pairwise(rows)
            if row[0] in ("pub", "sec") and after[0] == "fpr" and len(after) > 9
        ]

    def _gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """What it writes, whatever it ends with: what it wrote is looked at."""
        return self._run("read GPG keys", [*_GPG, "--homedir", str(self._home), *arguments], stdin).stdout

    def _run(self, attempted: str, command: Sequence[str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._home),
            "GNUPGHOME": str(self._home),
            "LC_ALL": "C",
        }
        try:
            return subprocess.run(
                command, input=stdin, capture_output=True, env=environment, timeout=PROGRAM_TIMEOUT_S, check=False
            )
        except FileNotFoundError as error:
            why = f"the program {command[0]} is not there"
            raise Transient(
                attempted, why, fix=f"install the Debian package {command[0]}", code="gpg_missing"
            ) from error
        except (subprocess.TimeoutExpired, OSError) as error:
            raise Transient(attempted, f"{command[0]}: {error}", code="gpg_failed") from error
