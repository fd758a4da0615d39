"""Values for secrets, as people and scripts give them: KEY=VALUE lines, and files. Used by `trueup secret`.

A value of several lines, or a binary one, is written `base64:...` in a line. Messages name the line, never what is in
it.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from kit.errors import Refusal

INPUT_BYTES_MAX = 1 << 20
_KEY = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")


def gather(values: str, files: Iterable[str]) -> dict[str, bytes]:
    """From KEY=VALUE lines (a path, "-" or "" for standard input) and KEY=PATH pairs. With pairs alone, standard input
    is left in peace."""
    found: dict[str, bytes] = {}
    for pair in files:
        key, equals, path = pair.partition("=")
        if not equals:
            raise usage("--file wants KEY=PATH", "for example --file TLS_KEY=key.pem")
        _add(found, key, read_bounded(path), f"--file {key[:40]}")
    if values or not found:
        _add_lines(found, read_bounded(values or "-"))
    return found


def values_in(lines: bytes) -> dict[str, bytes]:
    """Of KEY=VALUE lines."""
    found: dict[str, bytes] = {}
    _add_lines(found, lines)
    return found


def _add_lines(found: dict[str, bytes], lines: bytes) -> None:
    for number, line in enumerate(lines.split(b"\n"), start=1):
        _add_line(found, line.removesuffix(b"\r"), number)


def _add_line(found: dict[str, bytes], line: bytes, number: int) -> None:
    if not line.strip() or line.startswith(b"#"):
        return
    key, equals, value = line.partition(b"=")
    if not equals:
        raise usage(f"line {number} is no KEY=VALUE", "write one value a line")
    if value.startswith(b"base64:"):
        try:
            value = base64.b64decode(value.removeprefix(b"base64:"), validate=True)
        except binascii.Error:
            raise usage(f"line {number} is not base64 after base64:", "make it with: base64 -w0 FILE") from None
    _add(found, key.decode("utf-8", "replace"), value, f"line {number}")


def _add(found: dict[str, bytes], key: str, value: bytes, where: str) -> None:
    if not _KEY.fullmatch(key):
        raise usage(f"{where}: the key is not a variable's name", "use A-Z, 0-9 and _, beginning with a letter")
    if key in found:
        raise usage(f"{where}: the key {key} is there twice", "give each key once")
    found[key] = value


def read_bounded(path: str) -> bytes:
    """A file, or "-" for standard input."""
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as handle:
            content = handle.read(INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}", "name a file") from error
    if len(content) > INPUT_BYTES_MAX:
        raise usage(f"{path} has more than {INPUT_BYTES_MAX} bytes", "a value may have 64 KiB")
    return content


def usage(why: str, fix: str) -> Refusal:
    return Refusal("seal a secret", why, fix=fix, code="usage")
