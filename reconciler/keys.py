"""The controller's own files in its state folder: the key that tokens are made with, and what the command line reads.

Called by `reconciler.bootstrap` and by `trueup token`.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from kit.errors import Refusal
from kit.files import read_private, write_atomically

TOKEN_KEY = "token.key"  # noqa: S105  # a file's name
OPERATOR_TOKEN = "operator.token"  # noqa: S105  # a file's name
CONTROLLER_URL = "controller.url"
PLATFORM_KEY = "platform.agekey"
HEAD_KEY = "head.key"
AUTHORITY = "ca"
MACHINES_URL = "machines.url"
MACHINE_TOKENS = "machine-tokens"
"""There while the setting is on: `trueup token node|edge` look for it."""
_KEY_BYTES = 32


def shared_file(given: Path | None, default: Path, what: str) -> Path:
    """The key file to use. One that was named has to be there: every controller of a fleet has the same keys, and one
    that made its own would refuse the others' tokens and misread their secrets."""
    if given is None:
        return default
    if not given.is_file():
        fix = "copy it, with mode 600, from the state folder of the first controller"
        raise Refusal(f"read the {what} key {given}", "there is no such file", fix=fix, code="key_missing")
    return given


def token_key(state: Path, given: Path | None = None) -> bytes:
    """The key under which all tokens are made; a new one if there is none. Deleting the file takes all tokens back."""
    path = shared_file(given, state / TOKEN_KEY, "token")
    try:
        key = read_private(path)
    except FileNotFoundError:
        key = secrets.token_bytes(_KEY_BYTES)
        write_atomically(path, key)
    if len(key) != _KEY_BYTES:
        fix = "restore it, or delete it: every token then has to be made anew"
        raise Refusal(f"read the token key {path}", f"expected {_KEY_BYTES} bytes, found {len(key)}", fix=fix)
    return key
