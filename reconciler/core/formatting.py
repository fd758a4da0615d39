"""One layout for manifests: what `trueup fmt` writes.

Two spaces for each level, list items indented under their key, one space before a comment, comment lines aligned with
what follows them, no runs of empty lines, `---` between documents. Order, quotes, block and flow style stay as the
author chose them. The layout is ruamel's round trip with types switched off; whatever it does, `formatted` gives a text
back only when it says the same as before to `yaml_reader`, holds the same comments, and formats to itself. What sops
encrypted stays as sops lays it out, since it does so again at the next `sops edit`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase, CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import ScalarEvent
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tokens import CommentToken

from reconciler.core.yaml_reader import Array, Node, Table, read_documents

PASSES_MAX = 3
_WIDTH = 1 << 20
"""No line is ever broken: a broken plain text is harder to read and to compare."""
_OF_SOPS = re.compile(r"^sops:$", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|[ \t])#(.*)$")


def formatted(text: str) -> str | None:
    """The text in the layout, or None when that cannot be had without changing more than the layout. The text has no
    findings from `read_documents`."""
    if _OF_SOPS.search(text) and "ENC[AES256_GCM," in text:
        return text
    current = text
    for _ in range(PASSES_MAX):
        try:
            following = _tidy(_round_trip(_without_empty_documents(current)))
        except (YAMLError, AttributeError, TypeError, ValueError, IndexError):  # ruamel, on what it did not foresee
            return None
        if following == current:
            return current if _same(text, current) else None
        current = following
    return None


class _NoTypes(VersionedResolver):
    """Every plain scalar is its text, as in `yaml_reader`."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        return self.DEFAULT_SCALAR_TAG if kind is ScalarNode else super().resolve(kind, value, implicit)


def _without_empty_documents(text: str) -> str:
    """Without the `---` that begins the file, ends it, or follows another: no line of a text can look like one."""
    kept: list[str] = []
    begun = False
    for line in text.removeprefix("\ufeff").split("\n"):
        separates = line.rstrip() == "---"
        if separates and not begun:
            continue
        begun = not separates and (begun or bool(line.strip() and not line.lstrip().startswith("#")))
        kept.append(line)
    while kept and not begun and (not kept[-1].strip() or kept[-1].rstrip() == "---"):
        begun = kept.pop().rstrip() == "---"
    return "\n".join(kept) + "\n"


def _round_trip(text: str) -> str:
    yaml = YAML()
    yaml.Resolver = _NoTypes
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    documents = list(yaml.load_all(text))
    for document in documents:
        for token in _comments(document):
            token.start_mark.column = 0
    out = io.StringIO()
    yaml.dump_all(documents, out)
    return out.getvalue()


def _comments(node: Any) -> Iterator[CommentToken]:
    """Those at the end of a line: the library puts them where they stood, or one space after the value."""
    if not isinstance(node, CommentedBase):
        return
    for group in node.ca.items.values():
        yield from (each for each in group if isinstance(each, CommentToken))
    for each in node.ca.comment or ():
        if isinstance(each, CommentToken):
            yield each
    for child in node.values() if isinstance(node, CommentedMap) else node if isinstance(node, list) else ():
        yield from _comments(child)


def _tidy(text: str) -> str:
    """Comment lines aligned with what follows, at most one empty line; nothing inside texts of several lines."""
    lines = text.split("\n")
    inside = _inside_texts(text)
    kept: list[str] = []
    indent = ""
    for number in reversed(range(len(lines))):
        line = lines[number]
        if number not in inside:
            line = line.rstrip()
            if line.startswith(("---", "...")):
                indent = ""
            elif line.lstrip().startswith("#"):
                line = indent + line.lstrip()
            elif line:
                indent = line[: len(line) - len(line.lstrip(" "))]
            if not line and (not kept or not kept[-1]):
                continue
        kept.append(line)
    return "\n".join(reversed(kept)).strip("\n") + "\n"


def _inside_texts(text: str) -> set[int]:
    """The lines on which a scalar that began on an earlier line goes on."""
    return {
        line
        for event in YAML(typ="safe", pure=True).parse(text)
        if isinstance(event, ScalarEvent) and event.end_mark.line > event.start_mark.line
        for line in range(event.start_mark.line + 1, event.end_mark.line + (event.end_mark.column > 0))
    }


def _same(before: str, after: str) -> bool:
    (nodes_before, wrong_before), (nodes_after, wrong_after) = (read_documents(x.encode(), "") for x in (before, after))
    if wrong_before or wrong_after:
        return False
    return [_bare(x) for x in nodes_before] == [_bare(x) for x in nodes_after] and _said(before) == _said(after)


def _bare(node: Node) -> Any:
    """Without places."""
    match node:
        case Table():
            return [(entry.key, _bare(entry.value)) for entry in node.entries]
        case Array():
            return ["-", *map(_bare, node.items)]
        case _:
            return (node.text, node.plain)


def _said(text: str) -> list[str]:
    """The comments, in order."""
    inside = _inside_texts(text)
    found = (_COMMENT.search(line) for number, line in enumerate(text.split("\n")) if number not in inside)
    return [match[1].strip() for match in found if match]
