"""The reading process with a parser that has three bugs: what a file says of itself, it does to the process.

Run as `python -m tests.attacks.hostile_reader`; everything else is the real child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
import time
from pathlib import Path

from reconciler.core.language import documents
from reconciler.core.language.documents import ParsedFile

real = documents.parse_file


def parse_file(content: bytes, path: str, blob: str) -> ParsedFile:
    if b"# segfault" in content:
        ctypes.string_at(0)
    if b"# loop" in content:
        while True:
            pass
    if b"# sleep" in content:
        time.sleep(3600)
    if b"# eat" in content:
        eaten = []
        while True:
            eaten.append(bytearray(16 << 20))
    if b"# babble" in content:
        os.write(_answers(), b"\x7f\xff\xff\xff" + b"x" * 1000)
    if b"# lie" in content:
        os.write(_answers(), b"\x00\x00\x00\x03abc")
    if b"# print" in content:
        os.write(1, b"noise" * 100)
    if b"# exit" in content:
        os._exit(9)
    if b"# stop" in content:
        os.kill(os.getpid(), signal.SIGSTOP)
    return real(content, path, blob)


def _answers() -> int:
    """The pipe to the controller, found as an intruder would find it."""
    return next(
        number
        for number in range(3, 64)
        if Path(f"/proc/self/fd/{number}").exists() and stat.S_ISFIFO(os.fstat(number).st_mode)
    )


if __name__ == "__main__":
    documents.parse_file = parse_file
    from reconciler.git.bounded import child  # it takes the parser as it finds it

    sys.exit(child.main())
