"""A strict reading of YAML: mappings, sequences and texts, each with its line and column, and nothing else.

`reconciler.core.manifest` calls `read_documents` with a file's bytes. It never resolves a type: a scalar keeps its
text and whether it was plain, and the schema decides what it is, so `no` and `22:22` and `1e3` stay what they say.
Refused with their place: anchors, aliases, tags, directives, merge keys, duplicate keys, keys that are not text, bytes
that are not UTF-8, control characters, and anything beyond the bounds below. It works on the parser's events, so a file
of nested brackets costs no stack, and an alias is never followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from reconciler.core.findings import Finding

FILE_BYTES_MAX = 256 * 1024
"""A manifest is a page or two; a Secret with its 64 KiB values is the largest."""
DOCUMENTS_MAX = 1000
DEPTH_MAX = 32
NODES_MAX = 50_000
"""Fifty nodes for each of the documents; bounds the time of one file to a second or two."""

_FORBIDDEN = re.compile("[^\\t\\n\\r\\x20-\\x7e\\x85\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something is written: line and column count from 1. `via`: what it comes through, when that is elsewhere
    (the variable in it, say)."""

    line: int
    column: int
    path: str = ""
    via: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar as it is written. `plain`: without quotes, so that a schema may read a number or a truth value in it."""

    text: str
    plain: bool
    mark: Mark


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    key_mark: Mark
    value: Node


@dataclass(frozen=True, slots=True)
class Table:
    entries: tuple[Entry, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Array:
    items: tuple[Node, ...]
    mark: Mark


Node = Text | Table | Array

_NOTHING = frozenset(("", "~", "null", "Null", "NULL"))


def says_nothing(text: str) -> bool:
    """Whether a plain scalar of this text is no value at all. A text of that form has to be quoted."""
    return text in _NOTHING


def is_nothing(node: Node) -> bool:
    """A key without a value, or with a null: it takes away what is inherited, and is a mistake everywhere else."""
    return isinstance(node, Text) and node.plain and says_nothing(node.text)


class _Stop(Exception):
    """The rest of the file cannot be read; the finding is already noted."""


def read_documents(content: bytes, path: str) -> tuple[list[Node], list[Finding]]:
    """The documents of a file that are not empty. After a finding about syntax, size or depth the documents before it
    are still there."""
    reading = _Reading(path)
    text = reading.decode(content)
    if text is not None:
        reading.run(text)
    return reading.documents, reading.findings


class _Reading:
    """One pass over one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.documents: list[Node] = []
        self.findings: list[Finding] = []
        self._nodes = 0
        self._documents = 0

    def note(self, code: str, mark: Mark, message: str, fix: str) -> None:
        self.findings.append(Finding(self.path, mark.line, mark.column, "", code, message, fix))

    def decode(self, content: bytes) -> str | None:
        if len(content) > FILE_BYTES_MAX:
            self.findings.append(file_too_large(self.path, len(content)))
            return None
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            mark = self._mark_at(content[: error.start].decode("utf-8", "replace"))
            self.note("not_utf8", mark, f"byte 0x{content[error.start]:02x} is not UTF-8", "save the file as UTF-8")
            return None
        if found := _FORBIDDEN.search(text):
            mark = self._mark_at(text[: found.start()])
            self.note("control_character", mark, f"the character U+{ord(found[0]):04X} is not allowed", "remove it")
            return None
        return text

    def run(self, text: str) -> None:
        try:
            events = YAML(typ="safe", pure=True).parse(text)
            for event in events:
                if isinstance(event, DocumentStartEvent):
                    self._document(event, events)
        except MarkedYAMLError as error:
            self._syntax(error)
        except YAMLError as error:
            self.note("yaml_invalid", Mark(0, 0), f"this is not YAML: {_first_line(str(error))}", _LOOK)
        except _Stop:
            pass

    def _document(self, start: DocumentStartEvent, events: Iterator[Event]) -> None:
        mark = self._mark(start)
        self._documents += 1
        if self._documents > DOCUMENTS_MAX:
            self._stop("too_many_documents", mark, f"more than {DOCUMENTS_MAX} documents in one file", "split the file")
        if start.version or start.tags:
            self.note("yaml_directive", mark, "%YAML and %TAG directives are not allowed", "remove the line")
        event = next(events)
        node = self._node(event, events, 0)
        if not (isinstance(node, Text) and node.plain and not node.text):
            self.documents.append(node)

    def _node(self, event: Event, events: Iterator[Event], depth: int) -> Node:
        mark = self._count(event, depth)
        self._refuse_features(event, mark)
        match event:
            case ScalarEvent():
                self._refuse_escapes(event.value, mark)
                return Text(event.value, not event.style, mark)
            case SequenceStartEvent():
                return Array(tuple(self._items(events, depth)), mark)
            case MappingStartEvent():
                return Table(tuple(self._entries(events, depth)), mark)
            case _:  # an alias, noted as a mistake; not followed, and not "no value" either
                return Text("", False, mark)

    def _items(self, events: Iterator[Event], depth: int) -> Iterator[Node]:
        while not isinstance(event := next(events), SequenceEndEvent):
            yield self._node(event, events, depth + 1)

    def _entries(self, events: Iterator[Event], depth: int) -> Iterator[Entry]:
        seen: dict[str, Mark] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if isinstance(value, Text) and value.plain and not value.text:
                value = Text("", True, key.mark)  # the parser places it at whatever comes next
            if self._key_is_good(key, seen) and isinstance(key, Text):
                seen[key.text] = key.mark
                yield Entry(key.text, key.mark, value)

    def _key_is_good(self, key: Node, seen: dict[str, Mark]) -> bool:
        if not isinstance(key, Text):
            self.note("key_not_text", key.mark, "a key must be a text, not a mapping or a list", "put it in quotes")
        elif key.plain and key.text == "<<":
            self.note("merge_key", key.mark, "merge keys (<<) are not allowed", "write the fields out")
        elif key.plain and not key.text:
            self.note("key_not_text", key.mark, "a key is missing before the colon", "write a key, or put it in quotes")
        elif key.text in seen:
            first = seen[key.text]
            message = f"the key {key_name(key.text)} is here twice; the first is at line {first.line}"
            self.note("duplicate_key", key.mark, message, "keep one of the two")
        else:
            return True
        return False

    def _count(self, event: Event, depth: int) -> Mark:
        mark = self._mark(event)
        self._nodes += 1
        if self._nodes > NODES_MAX:
            self._stop("too_many_nodes", mark, f"more than {NODES_MAX} values in one file", "split the file")
        if depth > DEPTH_MAX:
            self._stop("too_deep", mark, f"nested more than {DEPTH_MAX} levels deep", "write it flatter")
        return mark

    def _refuse_features(self, event: Event, mark: Mark) -> None:
        if isinstance(event, AliasEvent):
            self.note("yaml_alias", mark, "aliases (*name) are not allowed", "write the value out")
        elif getattr(event, "anchor", None):
            self.note("yaml_anchor", mark, "anchors (&name) are not allowed", "remove it and write the value out")
        if getattr(event, "tag", None):
            self.note("yaml_tag", mark, "tags (!name) are not allowed", "remove it; quotes keep a text a text")

    def _refuse_escapes(self, text: str, mark: Mark) -> None:
        """A quoted text can write what the file itself may not hold: "\\0" or half of a surrogate pair."""
        if found := _FORBIDDEN.search(text):
            self.note("control_character", mark, f"the text holds the character U+{ord(found[0]):04X}", "remove it")

    def _mark(self, event: Event) -> Mark:
        return Mark(event.start_mark.line + 1, event.start_mark.column + 1, self.path)

    def _mark_at(self, before: str) -> Mark:
        return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1, self.path)

    def _stop(self, code: str, mark: Mark, message: str, fix: str) -> None:
        self.note(code, mark, message, fix)
        raise _Stop

    def _syntax(self, error: MarkedYAMLError) -> None:
        where = error.problem_mark or error.context_mark
        mark = Mark(where.line + 1, where.column + 1) if where else Mark(0, 0)
        problem, fix = _explain(str(error.problem or error.context or "it cannot be parsed"))
        since = ""
        if error.context and error.context_mark and error.context_mark.line + 1 != mark.line:
            since = f" ({error.context.removeprefix('while ')} that began at line {error.context_mark.line + 1})"
        self.note("yaml_invalid", mark, f"this is not valid YAML: {problem}{since}", fix)


_LOOK = "look at this line and the one before it: brackets, quotes and colons that stand in a text need quotes"
_EXPLAINED = (
    ("but got '{'", "a brace stands where none can", "inside {} and [], put a text with ${...} in quotes"),
    ("'\\t'", "there is a tab where YAML wants spaces", "indent with spaces"),
    ("mapping values are not allowed", "a colon stands where no key can begin", "look at the indentation and quotes"),
    ("could not find expected ':'", "a line has no colon after its key", "look at the indentation of this line"),
    ("expected <block end>", "the indentation does not match the lines above", "align it with its neighbours"),
    ("found unexpected end of stream", "the file ends inside a quoted text", "close the quotes"),
)


def _explain(problem: str) -> tuple[str, str]:
    for sign, message, fix in _EXPLAINED:
        if sign in problem:
            return message, fix
    return _first_line(problem), _LOOK


def file_too_large(path: str, size_bytes: int) -> Finding:
    message = f"the file has {size_bytes} bytes; a manifest file may have {FILE_BYTES_MAX}"
    return Finding(path, 0, 0, "", "file_too_large", message, "split it into several files")


def key_name(key: str) -> str:
    """A key for a message: only when it looks like a field's name, because a misplaced secret can end up as a key."""
    return f"'{key}'" if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,47}", key) else "(not a plain name)"


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0][:120]
