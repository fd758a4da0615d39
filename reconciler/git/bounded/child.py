"""The reading process: answers one question after the other until its input ends.

Started by `process` as `python -m reconciler.git.bounded`. Before each file it writes the file's path where the
controller can read it, and sets a timer that ends the process: whatever happens next, it is known what it was at.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pygit2

from kit.errors import TrueupError
from kit.pauses import keep_short
from reconciler.core.declared import Scope
from reconciler.core.manifest import sealed_in
from reconciler.core.model import ResourceId
from reconciler.core.yaml_reader import FILE_BYTES_MAX
from reconciler.git.bounded import wire
from reconciler.git.bounded.limits import Limits
from reconciler.git.objects import Objects, ObjectStore, ObjectTooLarge
from reconciler.git.tree_files import TreeDelta, TreeFiles

_WINDOW_BYTES, _MAPPED_BYTES, _CACHE_BYTES = 32 << 20, 256 << 20, 32 << 20
"""What libgit2 maps and caches: its own defaults are larger than the whole process may be."""
_FAILED_READ = 3


@dataclass(slots=True)
class Child:
    """`note`: where the path of the file at hand is written."""

    limits: Limits
    note: int
    _objects: dict[str, ObjectStore] = field(default_factory=dict)
    _trees: dict[tuple[str, ...], TreeFiles] = field(default_factory=dict)

    def answer(self, ask: wire.Ask) -> Iterator[wire.Answer]:
        self._begin()
        self._at("")
        try:
            yield from ANSWERS[ask.what](self, ask)
        except TrueupError as error:
            yield _failed(error)

    def objects(self, repository: str) -> ObjectStore:
        if repository not in self._objects:
            self._objects[repository] = ObjectStore(Path(repository))
        return self._objects[repository]

    def tree(self, repository: str, org: str, project: str, parts: list[str]) -> TreeFiles:
        key = (repository, org, project, *parts)
        if key not in self._trees:
            self._trees[key] = TreeFiles(self.objects(repository), Scope(org, project), tuple(parts), self.before_file)
        return self._trees[key]

    def before_file(self, path: str) -> None:
        self._at(path)
        signal.setitimer(signal.ITIMER_PROF, self.limits.file_cpu_s if path else 0)

    def _begin(self) -> None:
        """The clock of one question: the kernel ends the process when it has used up its share of the processor."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        used = resource.getrusage(resource.RUSAGE_SELF)
        allowed = int(used.ru_utime + used.ru_stime + self.limits.question_cpu_s) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))

    def _at(self, path: str) -> None:
        os.pwrite(self.note, path.encode("utf-8", "replace")[: self.limits.note_bytes - 1].ljust(256, b"\0") + b"\0", 0)


def _failed(error: TrueupError) -> wire.Failed:
    sizes = (error.object_id, error.size_bytes, error.bound_bytes) if isinstance(error, ObjectTooLarge) else None
    return wire.Failed(error.attempted, error.why, error.fix, error.code, error.retryable, sizes)


def _read_tree(child: Child, ask: wire.Ask) -> Iterator[wire.Answer]:
    org, project, parts, commit, base = ask.arguments
    delta = child.tree(ask.repository, org, project, parts).read(commit, base)
    files: list[Any] = []
    size_bytes = 0
    for file in delta.files:
        raw = msgspec.msgpack.encode(file)
        files.append(msgspec.Raw(raw))
        size_bytes += len(raw)
        if size_bytes > wire.PART_BYTES:
            yield wire.Part(tuple(files))
            files, size_bytes = [], 0
    yield wire.Part(tuple(files))
    rest = TreeDelta(delta.base, delta.removed, (), delta.findings, delta.parsed, delta.unusable)
    yield wire.Done(rest)


def _sealed(child: Child, ask: wire.Ask) -> Iterator[wire.Answer]:
    blob, resource_id = ask.arguments
    content = child.objects(ask.repository).blob(blob, FILE_BYTES_MAX)
    yield wire.Done(replace(sealed_in(content, ResourceId.parse(resource_id)), blob=blob))


def _object(name: str) -> Callable[[Child, wire.Ask], Iterator[wire.Answer]]:
    def answer(child: Child, ask: wire.Ask) -> Iterator[wire.Answer]:
        yield wire.Done(getattr(child.objects(ask.repository), name)(*ask.arguments))

    return answer


OBJECT_QUESTIONS = tuple(name for name in vars(Objects) if not name.startswith("_"))
ANSWERS: dict[str, Callable[[Child, wire.Ask], Iterator[wire.Answer]]] = {
    "read_tree": _read_tree,
    "sealed": _sealed,
    **{name: _object(name) for name in OBJECT_QUESTIONS},
}


def main() -> int:
    limits = msgspec.json.decode(sys.argv[1], type=Limits)
    _bound(limits)
    keep_short()
    child = Child(limits, int(sys.argv[2]))
    questions, answers = sys.stdin.buffer, wire.answers(sys.stdout)
    while True:
        try:
            body = wire.read_frame(questions.read, limits.request_bytes)
        except wire.FrameError:
            return 0  # the controller is gone
        try:
            for answer in child.answer(msgspec.msgpack.decode(body, type=wire.Ask)):
                answers.write(wire.frame(answer))
            answers.flush()
        except MemoryError:
            os._exit(limits.memory_exit)  # what was built so far may be anything


def _bound(limits: Limits) -> None:
    for what, bound in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits.note_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ):
        resource.setrlimit(what, (bound, bound))
    pygit2.settings.mwindow_size = _WINDOW_BYTES
    pygit2.settings.mwindow_mapped_limit = _MAPPED_BYTES
    pygit2.settings.cache_max_size(_CACHE_BYTES)
