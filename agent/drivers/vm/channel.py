"""The lines that a guest and the agent say to each other, without I/O. Driven by `attached.py`.

Bytes of the guest in, what is to be sent out: HELLO is answered with the archive, everything else changes what is known
of the guest. A guest is not trusted: its lines are bounded and its words are checked against the closed list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from agent.core.model import Exit
from kit.wire import REASON_CODES

LINE_BYTES_MAX = 1024
PING = b"PING\n"
RESEND_S = 8.0  # a guest gives an archive up after 5 s; a second one before that would be read as lines
GuestState = Literal["silent", "waiting", "started", "ended"]


@dataclass(slots=True)
class Conversation:
    """`archive` is dropped once it was handed over. `state` waiting: it asked for an archive that is not here."""

    archive: bytes | None = field(default=None, repr=False)
    state: GuestState = "silent"
    last_words: Exit | None = None
    _sent_at_s: float | None = None
    _partial: bytes = b""

    def hear(self, chunk: bytes, now_s: float) -> bytes:
        """What to answer to these bytes."""
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        self._partial = self._partial[:LINE_BYTES_MAX]
        texts = (line[:LINE_BYTES_MAX].decode("ascii", "replace") for line in lines)
        return b"".join(self._hear_line(text, now_s) for text in texts)

    def begin_anew(self) -> None:
        """After a new connection: half a line of the last one counts for nothing."""
        self._partial = b""

    def _hear_line(self, line: str, now_s: float) -> bytes:
        word, _, rest = line.strip().partition(" ")
        match word:
            case "HELLO" if self.state != "ended":
                return self._boot(now_s)
            case "STARTED" if self.state != "ended":
                self.state, self.archive = "started", None
            case "EXIT" | "FAILED":
                self._end(word, rest)
        return b""

    def _boot(self, now_s: float) -> bytes:
        self.state = "waiting"
        if self.archive is None or (self._sent_at_s is not None and now_s - self._sent_at_s < RESEND_S):
            return b""
        self._sent_at_s = now_s
        return b"BOOT %d\n" % len(self.archive) + self.archive

    def _end(self, word: str, rest: str) -> None:
        words = parse_last_words(word, rest)
        if words is not None:
            self.state, self.last_words, self.archive = "ended", words, None


def parse_last_words(word: str, rest: str) -> Exit | None:
    """EXIT N, EXIT N oom, or FAILED CODE text. None if they make no sense."""
    first, _, more = rest.strip().partition(" ")
    if word == "FAILED":
        code = first if first in REASON_CODES else "vmm_start_failed"
        return Exit(code, more or "the guest gave no reason")
    if not first.isdigit() or int(first) > 255:
        return None
    if more.startswith("oom"):
        return Exit("oom_killed", "the guest's kernel killed the process: the machine's memory is full", int(first))
    return Exit("process_exited", _exit_text(int(first)), int(first))


def _exit_text(code: int) -> str:
    return f"the process was ended by signal {code - 128}" if code > 128 else f"the process exited with code {code}"
