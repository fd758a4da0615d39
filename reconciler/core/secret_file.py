"""The secret file of a process: one fixed text form of names and values.

`reconciler.vault` merges decrypted values into it; the agent carries it to the guest, where it is
/run/secrets/platform.env. The form: a header line `# TRUEUP_SECRETS_V1`, then KEY=VALUE lines sorted by key, LF, with a
final LF. A reader splits at the first "=". A value that is binary, has a control character (a line break, say), begins
or ends with a space, is longer than 8192 bytes, or begins with "base64:" is written as `base64:` and its base64.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kit.errors import Refusal
from reconciler.core.model import ResourceId, SecretSpec

HEADER = b"# TRUEUP_SECRETS_V1\n"
FILE_BYTES_MAX = 256 * 1024
KEYS_MAX = 256
KEY_CHARS_MAX = 128
PLAIN_BYTES_MAX = 8192
DECODED_BYTES_MAX = 65536
PLACE_KEY = "TRUEUP_PLACE"
"""Of a SOPS document: its value is what the document is for, ENV/APP/NAME. It is in no secret file."""
_MARKER = b"base64:"
_KEY = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class SopsDocument:
    """A document that sops encrypted. `values`: in its order, "ENC[...]" or empty. `age_keys`: its data key, armored,
    to one recipient each. `mac`: over all values, encrypted with `last_modified` beside it. Of a whole manifest also
    where its values stand (`path`), and what else its MAC is over, in front of them and behind."""

    values: tuple[tuple[str, str], ...]
    age_keys: tuple[str, ...]
    last_modified: str
    mac: str
    mac_only_encrypted: bool = False
    path: str = ""
    plain_before: tuple[str, ...] = ()
    plain_after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SecretManifest:
    """A Secret as it stands in Git. `values`: key -> armored age text; where it was encrypted by `sops`, the value as
    it stands in there. `blob`: the Git object it stands in."""

    id: ResourceId
    values: Mapping[str, str]
    blob: str
    sops: SopsDocument | None = None


@dataclass(frozen=True, slots=True)
class SecretNote:
    """A warning about some values, told at the one of `key`."""

    key: str
    message: str
    fix: str
    code: str


@dataclass(frozen=True, slots=True)
class ResolvedSecret:
    """`file_bytes`: how much the secret adds to a secret file; 0 when that is not known (offline)."""

    spec: SecretSpec
    file_bytes: int
    notes: tuple[SecretNote, ...] = ()


class SecretRefusal(Refusal):
    """One value cannot be used. `key` names it; nothing of its content is in the message."""

    def __init__(self, key: str, why: str, fix: str, code: str) -> None:
        super().__init__(f"read the secret value {key}" if key else "read a secret", why, fix=fix, code=code)
        self.key = key


class ResolveSecret(Protocol):
    """How a Secret manifest becomes a specification. Raises `SecretRefusal`."""

    def __call__(self, secret: SecretManifest) -> ResolvedSecret: ...


def secret_lines(values: Mapping[str, bytes]) -> bytes:
    """The lines of some values, sorted, without the header."""
    return b"".join(key.encode() + b"=" + _encoded(key, value) + b"\n" for key, value in sorted(values.items()))


def secret_file(values: Mapping[str, bytes]) -> bytes:
    """The whole file, or a `SecretRefusal` that names the bound."""
    if len(values) > KEYS_MAX:
        why = f"{len(values)} keys; a secret file may have {KEYS_MAX}"
        raise SecretRefusal("", why, "use fewer", "secret_too_large")
    content = HEADER + secret_lines(values)
    if len(content) > FILE_BYTES_MAX:
        why = f"the secret file would have {len(content)} bytes; it may have {FILE_BYTES_MAX}"
        raise SecretRefusal("", why, "use fewer or shorter values", "secret_too_large")
    return content


def parse_secret_file(content: bytes) -> dict[str, bytes]:
    """The values of a file that `secret_file` made."""
    if not content.startswith(HEADER):
        raise Refusal("read a secret file", "the header is missing", code="secret_file_invalid")
    values = {}
    for line in content[len(HEADER) :].split(b"\n")[:-1]:
        key, _, value = line.partition(b"=")
        plain = base64.b64decode(value[len(_MARKER) :], validate=True) if value.startswith(_MARKER) else value
        values[key.decode()] = plain
    return values


def _encoded(key: str, value: bytes) -> bytes:
    if not _KEY.fullmatch(key):
        raise SecretRefusal("", "a key is not a variable's name", "use A-Z, 0-9 and _", "name_invalid")
    if len(value) > DECODED_BYTES_MAX:
        why = f"the value has {len(value)} bytes; it may have {DECODED_BYTES_MAX}"
        raise SecretRefusal(key, why, "shorten it", "secret_too_large")
    return value if _is_plain(value) else _MARKER + base64.b64encode(value)


def _is_plain(value: bytes) -> bool:
    if len(value) > PLAIN_BYTES_MAX or value.startswith(_MARKER) or value != value.strip():
        return False
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False
