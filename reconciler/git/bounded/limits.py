"""What the reading process, or the sealer, may use. The controller gives them to it at its start."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """`question_s`: by the wall clock, after which it is killed. The processor's time is counted by the kernel, so that
    a busy machine makes no file guilty. `note_bytes`: the largest file that it may write; it writes none but notes."""

    memory_bytes: int = 1 << 30
    question_s: float = 300.0
    question_cpu_s: float = 240.0
    file_cpu_s: float = 20.0
    note_bytes: int = 16 * 1024
    open_files: int = 256
    memory_exit: int = 77
    request_bytes: int = 64 * 1024
