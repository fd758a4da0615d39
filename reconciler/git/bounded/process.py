"""The reading process, from the controller's side: started when it is needed, asked, killed when it is too slow.

Used by `source`. Blocks: call it in a worker thread. Whatever the child does, `ask` ends within its time, with answers
of the right shape, with the error that the child reports, or with `ReaderDied`; the next question starts a new child.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from kit.errors import Refusal, Transient
from reconciler.git.bounded import wire
from reconciler.git.bounded.limits import Limits
from reconciler.git.objects import ObjectTooLarge

_ROOT = Path(__file__).parents[3]
"""Where this program's packages are, so that the child runs the same code."""
_CHUNK_BYTES = 1 << 20
_STDERR_CHARS = 300


class ReaderDied(Exception):
    """`path`: the file that it was at, "" for none. `how`: for people. `cut_off`: by `close`, nobody's fault."""

    def __init__(self, path: str, how: str, *, cut_off: bool = False) -> None:
        super().__init__(f"{how} at {path or 'no file in particular'}")
        self.path = path
        self.how = how
        self.cut_off = cut_off


class ReadingProcess:
    """One child at a time, one question at a time. `close` may be called from any thread, also during a question."""

    def __init__(
        self, limits: Limits | None = None, program: tuple[str, ...] = ("-m", "reconciler.git.bounded")
    ) -> None:
        self.limits = limits or Limits()
        self._program = program
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closings = 0

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.process.pid if child else None

    def ask(self, what: str, repository: str, *arguments: Any) -> Iterator[wire.Part | wire.Done]:
        """The parts of the answer; the last is a `Done`. Raises what the child reports, or `ReaderDied`."""
        question = wire.frame(wire.Ask(what, repository, arguments))
        if len(question) > self.limits.request_bytes:
            why = f"the question has {len(question)} bytes; it may have {self.limits.request_bytes}"
            raise Refusal(f"ask {what}", why, fix="make what it is about smaller", code="too_large")
        with self._lock:
            child = self._child or self._start()
            answered, closings = False, self._closings
            try:
                deadline_s = time.monotonic() + self.limits.question_s
                child.send(question, deadline_s)
                for answer in child.answers(deadline_s):
                    answered = not isinstance(answer, wire.Part)
                    if isinstance(answer, wire.Failed):
                        raise _raised(answer)
                    yield answer
                    if answered:
                        return
            except (wire.FrameError, OSError, msgspec.MsgspecError) as error:
                self._child = None
                if self._closings != closings:
                    raise ReaderDied("", "it was told to stop", cut_off=True) from error
                raise ReaderDied(child.note(), child.end(error, self.limits)) from error
            finally:
                if not answered:  # somebody stopped listening in the middle
                    self.close()

    def close(self) -> None:
        self._closings += 1
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _start(self) -> _Child:
        self._child = _Child(self.limits, self._program)
        return self._child


class _Child:
    def __init__(self, limits: Limits, program: tuple[str, ...]) -> None:
        self._note = os.memfd_create("at")
        self._stderr = os.memfd_create("stderr")
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(_ROOT),
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
        }
        arguments = [msgspec.json.encode(limits).decode(), str(self._note)]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-s", *program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            cwd="/",
            pass_fds=(self._note,),
            start_new_session=True,
            bufsize=0,
        )
        assert self.process.stdin
        os.set_blocking(self.process.stdin.fileno(), False)
        self._finalizer = weakref.finalize(self, _end, self.process, (self._note, self._stderr))
        self._buffer = bytearray()
        self._total = 0

    def send(self, frame: bytes, deadline_s: float) -> None:
        assert self.process.stdin
        descriptor = self.process.stdin.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        rest = memoryview(frame)
        while rest:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                raise TimeoutError
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(descriptor, rest) :]

    def answers(self, deadline_s: float) -> Iterator[wire.Answer]:
        self._total = 0
        while True:
            body = wire.read_frame(lambda size: self._read(size, deadline_s), wire.FRAME_BYTES_MAX)
            self._total += len(body)
            if self._total > wire.ANSWER_BYTES_MAX:
                raise wire.FrameError(f"an answer of more than {wire.ANSWER_BYTES_MAX} bytes")
            yield _decoder.decode(body)

    def _read(self, size: int, deadline_s: float) -> bytes:
        assert self.process.stdout
        descriptor = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
        while len(self._buffer) < size:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                raise TimeoutError
            chunk = os.read(descriptor, _CHUNK_BYTES)
            if not chunk:
                break
            self._buffer += chunk
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def note(self) -> str:
        """The path that the child wrote last. Bounded, and of printable characters."""
        with contextlib.suppress(OSError):
            raw = os.pread(self._note, 4096, 0).split(b"\0", 1)[0]
            return "".join(letter for letter in raw.decode("utf-8", "replace") if letter.isprintable())
        return ""

    def end(self, error: Exception, limits: Limits) -> str:
        """Ends it, and says how it came to its end."""
        if isinstance(error, TimeoutError):
            self.kill()
            return f"it took longer than {limits.question_s:g} s"
        if not isinstance(error, wire.FrameError) and not isinstance(error, OSError):
            self.kill()
            return f"its answer has the wrong shape: {str(error)[:200]}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        code = self.process.poll()
        said = self._said()
        self.kill()
        return _how(code, error, said, limits)

    def kill(self) -> None:
        """Returns when it is gone."""
        self._finalizer()

    def _said(self) -> str:
        with contextlib.suppress(OSError):
            text = os.pread(self._stderr, 16 * 1024, 0).decode("utf-8", "replace").strip()
            return text.rpartition("\n")[2][:_STDERR_CHARS]
        return ""


def _end(process: subprocess.Popen[bytes], descriptors: tuple[int, ...]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _how(code: int | None, error: Exception, said: str, limits: Limits) -> str:
    if code == limits.memory_exit or (code == 1 and "MemoryError" in said):
        return f"it needed more than {limits.memory_bytes >> 20} MiB of memory"
    if code == -signal.SIGPROF:
        return f"it took more than {limits.file_cpu_s:g} s of the processor"
    if code == -signal.SIGXCPU:
        return f"it took more than {limits.question_cpu_s:g} s of the processor in all"
    if code is not None and code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    if code is not None:
        return f"it ended with status {code}{f': {said}' if said else ''}"
    return f"it did not keep to the protocol: {error}"


def _raised(failed: wire.Failed) -> Exception:
    if failed.too_large is not None:
        return ObjectTooLarge(*failed.too_large)
    kind = Refusal if not failed.retryable else Transient
    return kind(failed.attempted, failed.why, fix=failed.fix, code=failed.code)


_decoder: msgspec.msgpack.Decoder[wire.Answer] = msgspec.msgpack.Decoder(wire.Answer)
