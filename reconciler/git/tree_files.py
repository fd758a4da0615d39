"""The manifest files of a commit, resolved, as the difference to a commit that was read before.

`tree_reader` asks for it; in the controller it runs in a process of its own (`reconciler.git.bounded`), because all
that it touches was written by others. Work follows what changed: an unchanged file is not read, and a file whose
inputs (`Context.inputs`) are the same is not resolved. Kept per file is its outline; the parsed nodes of a file,
which are large, only up to a bound, and a file beyond it is parsed again when something that it inherits changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.core.cross_checks import RESOURCES_MAX, too_many_resources
from reconciler.core.declared import ManifestFile, Scope
from reconciler.core.findings import Finding
from reconciler.core.language.context import Context, Inputs, Memory
from reconciler.core.language.documents import ParsedFile, parse_file
from reconciler.core.language.outline import Outline, outline
from reconciler.core.language.resolve import resolve_file
from reconciler.core.language.variables import Use
from reconciler.core.yaml_reader import FILE_BYTES_MAX, file_too_large
from reconciler.git.objects import Objects, ObjectTooLarge
from reconciler.git.tree_walk import TreeWalk

TREE_MANIFEST_BYTES_MAX = 32 << 20
"""Of all manifests of a source together; parsing takes two or three seconds per MiB."""
TREE_CHARS_MAX = 64 << 20
"""Of all resources together, with what they inherit."""
PARSED_BYTES_MAX = 8 << 20
"""Of the files whose nodes are kept; nodes take some 25 times as much."""
TREES_KEPT = 2
Key = tuple[str, str]
"""Path and blob."""


@dataclass(frozen=True, slots=True)
class TreeDelta:
    """`base`: the commit that it is the difference to, "" when it is everything. `findings`: of the tree as a whole;
    those of a file are in the file. `parsed`: how many files were parsed for it. `unusable`: beyond a bound."""

    base: str = ""
    removed: tuple[str, ...] = ()
    files: tuple[ManifestFile, ...] = ()
    findings: tuple[Finding, ...] = ()
    parsed: int = 0
    unusable: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    """What a file was resolved from, and what came of it that the whole tree asks for."""

    inputs: Inputs
    used: frozenset[Use]
    chars: int


class _Beyond(Exception):
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@dataclass(slots=True)
class TreeFiles:
    """Blocks on the disk; one thread at a time. `before_file` is told of each file that is about to be read, and of ""
    when no file is at hand any more."""

    objects: Objects
    scope: Scope
    parts: tuple[str, ...]
    before_file: Callable[[str], None] = lambda path: None
    _walk: TreeWalk = field(init=False)
    _memory: Memory = field(default_factory=Memory)
    _outlines: list[dict[Key, Outline]] = field(default_factory=list)
    _states: OrderedDict[str, dict[str, _State]] = field(default_factory=OrderedDict)
    _parsed: OrderedDict[Key, ParsedFile] = field(default_factory=OrderedDict)
    _parsed_bytes: int = 0
    _count: int = 0

    def __post_init__(self) -> None:
        self._walk = TreeWalk(self.objects)

    def read(self, commit: str, base: str = "") -> TreeDelta:
        """`base`: a commit whose files the caller has; taken up when it was read here not long ago. `Transient` when an
        object cannot be read."""
        self._count = 0
        listing = self._walk.list(self.objects.commit(commit).tree, self.parts)
        try:
            outlines = self._outline_all(listing.files)
            context = Context(outlines, self._memory)
            _bound_resources(context.resources())
            return self._delta(commit, base, outlines, context, listing.findings)
        except _Beyond as beyond:
            return TreeDelta(findings=(beyond.finding,), parsed=self._count, unusable=True)

    def _delta(
        self, commit: str, base: str, outlines: Mapping[str, Outline], context: Context, walked: tuple[Finding, ...]
    ) -> TreeDelta:
        known = self._states.get(base)
        before = known or {}
        states: dict[str, _State] = {}
        files: list[ManifestFile] = []
        chars = 0
        for path, each in outlines.items():
            inputs = context.inputs(each)
            state = before.get(path)
            if state is None or state.inputs != inputs:
                self.before_file(path)
                resolved = resolve_file(self._nodes(path, each.blob), each, context, self.scope)
                state = _State(inputs, resolved.used, resolved.chars)
                files.append(resolved.file)
            states[path] = state
            chars += state.chars
            if chars > TREE_CHARS_MAX:
                raise _Beyond(_too_much_text(path))
        self.before_file("")
        self._keep(commit, states)
        findings = (*walked, *context.findings(state.used for state in states.values()))
        removed = tuple(path for path in before if path not in states)
        return TreeDelta(base if known is not None else "", removed, tuple(files), findings, self._count)

    def _keep(self, commit: str, states: dict[str, _State]) -> None:
        self._states[commit] = states
        self._states.move_to_end(commit)
        while len(self._states) > TREES_KEPT:
            self._states.popitem(last=False)

    def _outline_all(self, files: tuple[Key, ...]) -> dict[str, Outline]:
        current: dict[Key, Outline] = {}
        total_bytes = 0
        for key in files:
            current[key] = self._outline(key)
            total_bytes += current[key].size_bytes
            if total_bytes > TREE_MANIFEST_BYTES_MAX:
                raise _Beyond(_tree_too_large(key[0]))
        self._outlines = [current, *self._outlines[: TREES_KEPT - 1]]
        return {path: each for (path, _), each in current.items()}

    def _outline(self, key: Key) -> Outline:
        for known in self._outlines:
            if (found := known.get(key)) is not None:
                return found
        return outline(self._nodes(*key))

    def _nodes(self, path: str, blob: str) -> ParsedFile:
        key = (path, blob)
        found = self._parsed.get(key)
        if found is None:
            self.before_file(path)
            found = self._parse(path, blob)
            self._parsed[key] = found
            self._parsed_bytes += found.size_bytes
            while self._parsed_bytes > PARSED_BYTES_MAX and len(self._parsed) > 1:
                _, oldest = self._parsed.popitem(last=False)
                self._parsed_bytes -= oldest.size_bytes
        self._parsed.move_to_end(key)
        return found

    def _parse(self, path: str, blob: str) -> ParsedFile:
        self._count += 1
        try:
            content = self.objects.blob(blob, FILE_BYTES_MAX)
        except ObjectTooLarge as error:
            return ParsedFile(path, blob, 0, findings=(file_too_large(path, error.size_bytes),), opaque=True)
        return parse_file(content, path, blob)


def _bound_resources(count: int) -> None:
    if count > RESOURCES_MAX:
        raise _Beyond(too_many_resources(count))


def _tree_too_large(path: str) -> Finding:
    message = f"the manifests together have more than {TREE_MANIFEST_BYTES_MAX} bytes"
    return Finding(path, 0, 0, "", "tree_too_large", message, "split the repository into several sources")


def _too_much_text(path: str) -> Finding:
    message = f"the resources together hold more than {TREE_CHARS_MAX} characters with what they inherit"
    return Finding(
        path, 0, 0, "", "tree_too_large", message, "make defaults and variables smaller, or split the source"
    )
