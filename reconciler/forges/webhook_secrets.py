"""The secrets that a forge signs its webhooks with, out of the operator's file. Called by `reconciler.bootstrap`.

One secret a line, so that the next one can be put there before the forge knows it and the old one taken away after.
"""

from __future__ import annotations

from pathlib import Path

from kit.errors import Refusal
from kit.files import read_private

SECRETS_MAX = 4
"""A hook is checked against all of them."""
SECRET_BYTES_MIN = 16


def webhook_secrets(path: Path) -> tuple[bytes, ...]:
    """Read anew for each hook: a secret is changed without a restart. `Refusal` when there is no good one."""
    attempted = f"read the webhook secrets {path}"
    try:
        lines = [line.strip() for line in read_private(path).splitlines() if line.strip()]
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise Refusal(attempted, why, fix="write the secret there, with mode 600", code="key_missing") from error
    if not 1 <= len(lines) <= SECRETS_MAX or any(len(line) < SECRET_BYTES_MIN for line in lines):
        why = f"it does not hold 1 to {SECRETS_MAX} secrets of at least {SECRET_BYTES_MIN} bytes, one a line"
        raise Refusal(attempted, why, fix="make one with: openssl rand -hex 32", code="key_damaged")
    return tuple(lines)
