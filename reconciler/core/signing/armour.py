"""The text around a signature: BEGIN line, base64, END line, and nothing else. Used by `ssh` and `openpgp`."""

from __future__ import annotations

import base64
import binascii


class SignatureUnreadable(Exception):
    """The signature is not in a form that ssh-keygen or gpg writes; the message says in which way."""


def dearmour(text: bytes, kind: str) -> list[bytes]:
    """The lines between BEGIN and END. White space behind the END line is allowed (GitHub writes it)."""
    lines = [line.rstrip(b"\r") for line in text.rstrip(b" \r\n").split(b"\n")]
    begin, end = f"-----BEGIN {kind}-----".encode(), f"-----END {kind}-----".encode()
    if len(lines) < 3 or lines[0] != begin or lines[-1] != end:
        raise SignatureUnreadable(f"it is not one {kind} from its BEGIN line to its END line")
    inner = lines[1:-1]
    if any(line.startswith(b"-----") for line in inner):
        raise SignatureUnreadable(f"it holds more than one {kind}")
    return inner


def decode64(lines: list[bytes]) -> bytes:
    try:
        return base64.b64decode(b"".join(lines), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureUnreadable("its base64 is damaged") from error
