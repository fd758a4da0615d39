"""The manifest files of a commit, resolved, as the difference to a commit that was read before.

`tree_reader` asks for it; in the controller it runs in a process of its own (`reconciler.git.bounded`), because all
that it touches was written by others. Work follows what changed: an unchanged file is not read, and a file whose
inputs (`Context.inputs`) are the same is not resolved. Kept per file is its outline; the parsed nodes of a file,
which are large, only up to a bound, and a file beyond it is parsed again when something that it inherits changes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

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
from reconciler.git.tree_folders import Changes, Key
from reconciler.git.tree_walk import Listing, TreeWalk

TREE_MANIFEST_BYTES_MAX = 32 << 20
"""Of all manifests of a source together; parsing takes two or three seconds per MiB."""
TREE_CHARS_MAX = 64 << 20
"""Of all resources together, with what they inherit."""
PARSED_BYTES_MAX = 8 << 20
"""Of the files whose nodes are kept; nodes take some 25 times as much."""
TREES_KEPT = 2
_T = TypeVar("_T")


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


@dataclass(frozen=True, slots=True)
class _Known:
    """A commit that was read. `uses`: of each variable, in how many files; `size_bytes`, `resources` and `chars`: of
    all files together."""

    listing: Listing
    outlines: Mapping[str, Outline]
    context: Context
    states: Mapping[str, _State]
    uses: Counter[Use]
    size_bytes: int
    resources: int
    chars: int


_Read = tuple[_Known, list[ManifestFile], list[str]]
"""What is known now, the files that differ from what was known before, the paths of those that are gone."""


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
    _known: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    _parsed: OrderedDict[Key, ParsedFile] = field(default_factory=OrderedDict)
    _parsed_bytes: int = 0
    _count: int = 0

    def __post_init__(self) -> None:
        self._walk = TreeWalk(self.objects)

    def read(self, commit: str, base: str = "") -> TreeDelta:
        """`base`: a commit whose files the caller has; taken up when it was read here not long ago. `Transient` when an
        object cannot be read."""
        self._count = 0
        known = self._known.get(base)
        listing = self._walk.list(self.objects.commit(commit).tree, self.parts, known.listing if known else None)
        try:
            found = self._onto(known, listing, listing.changes) if known and listing.changes else None
            now, files, removed = found or self._anew(known, listing)
        except _Beyond as beyond:
            return TreeDelta(findings=(beyond.finding,), parsed=self._count, unusable=True)
        self._keep(commit, now)
        findings = (*listing.findings, *now.context.findings(now.uses))
        return TreeDelta(base if known else "", tuple(removed), tuple(files), findings, self._count)

    def _onto(self, known: _Known, listing: Listing, changes: Changes) -> _Read | None:
        """Only the files that differ are looked at. None when other files may see one of them, or a bound is near."""
        old = [known.outlines[path] for path, _ in changes.removed]
        new = [self._outline(key) for key in sorted(changes.added)]
        if not all(each.is_plain for each in (*old, *new)):
            return None
        outlines, states = dict(known.outlines), dict(known.states)
        for each in old:
            del outlines[each.path], states[each.path]
        outlines.update((each.path, each) for each in new)
        context = known.context.onto(old, new)
        size_bytes = known.size_bytes + _more(old, new, lambda each: each.size_bytes)
        resources = known.resources + _more(old, new, context.resources_of)
        if size_bytes > TREE_MANIFEST_BYTES_MAX or resources > RESOURCES_MAX:
            return None
        resolved = {each.path: self._resolve(each, context) for each in new}
        states.update((path, state) for path, (state, _) in resolved.items())
        gone, come = [known.states[each.path] for each in old], [state for state, _ in resolved.values()]
        chars = known.chars + _more(gone, come, lambda each: each.chars)
        if chars > TREE_CHARS_MAX:
            return None
        self.before_file("")
        uses = known.uses + _uses(come) - _uses(gone)
        now = _Known(listing, outlines, context, states, uses, size_bytes, resources, chars)
        return now, [file for _, file in resolved.values()], [each.path for each in old if each.path not in states]

    def _anew(self, known: _Known | None, listing: Listing) -> _Read:
        """All files are looked at; a file that was resolved from the same is not resolved again."""
        outlines, size_bytes = self._outline_all(listing.files)
        context = Context(outlines, self._memory)
        resources = context.resources()
        _bound_resources(resources)
        before = known.states if known else {}
        states: dict[str, _State] = {}
        files: list[ManifestFile] = []
        chars = 0
        for path, each in outlines.items():
            state = before.get(path)
            if state is None or state.inputs != context.inputs(each):
                state, file = self._resolve(each, context)
                files.append(file)
            states[path] = state
            chars += state.chars
            if chars > TREE_CHARS_MAX:
                raise _Beyond(_too_much_text(path))
        self.before_file("")
        removed = [path for path in before if path not in states]
        uses = _uses(states.values())
        return _Known(listing, outlines, context, states, uses, size_bytes, resources, chars), files, removed

    def _resolve(self, each: Outline, context: Context) -> tuple[_State, ManifestFile]:
        self.before_file(each.path)
        resolved = resolve_file(self._nodes(each.path, each.blob), each, context, self.scope)
        return _State(context.inputs(each), resolved.used, resolved.chars), resolved.file

    def _keep(self, commit: str, now: _Known) -> None:
        self._known[commit] = now
        self._known.move_to_end(commit)
        while len(self._known) > TREES_KEPT:
            self._known.popitem(last=False)

    def _outline_all(self, files: tuple[Key, ...]) -> tuple[dict[str, Outline], int]:
        found: dict[str, Outline] = {}
        total_bytes = 0
        for key in files:
            each = found[key[0]] = self._outline(key)
            total_bytes += each.size_bytes
            if total_bytes > TREE_MANIFEST_BYTES_MAX:
                raise _Beyond(_tree_too_large(key[0]))
        return found, total_bytes

    def _outline(self, key: Key) -> Outline:
        path, blob = key
        for known in self._known.values():
            if (found := known.outlines.get(path)) is not None and found.blob == blob:
                return found
        return outline(self._nodes(path, blob))

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


def _more(old: Iterable[_T], new: Iterable[_T], amount: Callable[[_T], int]) -> int:
    return sum(map(amount, new)) - sum(map(amount, old))


def _uses(states: Iterable[_State]) -> Counter[Use]:
    return Counter(use for state in states for use in state.used)


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
