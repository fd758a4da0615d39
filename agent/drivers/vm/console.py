"""The machine's console: a file that qemu appends to and the agent keeps short.

Called by `driver.py`. qemu opens the file for appending, so cutting it is safe at any moment; the newer half of what is
cut goes to FILE.1. The guest's init also says its last words here, for an agent that was away when they were said.
"""

from __future__ import annotations

import re
from pathlib import Path

from agent.core.model import Exit
from agent.drivers.vm.channel import parse_last_words

CONSOLE_BYTES_MAX = 1 << 20
TAIL_BYTES = 16 << 10
_LAST_WORDS = re.compile(rb"^trueup: (EXIT|FAILED) ([^\r\n]*)", re.MULTILINE)


def keep_short(console: Path) -> None:
    try:
        size = console.stat().st_size
    except FileNotFoundError:
        return
    if size <= CONSOLE_BYTES_MAX:
        return
    with console.open("r+b") as handle:
        handle.seek(size - CONSOLE_BYTES_MAX // 2)
        older(console).write_bytes(handle.read(CONSOLE_BYTES_MAX // 2))
        handle.truncate(0)


def older(console: Path) -> Path:
    return console.with_name(console.name + ".1")


def tail(console: Path, size_bytes: int = TAIL_BYTES) -> bytes:
    try:
        with console.open("rb") as handle:
            handle.seek(max(0, console.stat().st_size - size_bytes))
            return handle.read(size_bytes)
    except FileNotFoundError:
        return b""


def last_words(console: Path) -> Exit | None:
    found = _LAST_WORDS.findall(tail(console))
    return parse_last_words(found[-1][0].decode(), found[-1][1].decode("ascii", "replace")) if found else None
