"""`${name}` in the texts of a manifest. No expressions, no defaults, no environment, no variables inside variables.

`resolve` fills in a document after everything was merged into it. A name that has no value is a finding at the text
that uses it. `$${` writes `${`. What comes out is bounded, however often a long value is used.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.core.findings import Finding, nearest
from reconciler.core.schema import finding_at
from reconciler.core.yaml_reader import (
    FILE_BYTES_MAX,
    NODES_MAX,
    Array,
    Entry,
    Mark,
    Node,
    Table,
    Text,
    key_name,
    says_nothing,
)

BUILT_IN = ("env", "app", "name")
"""Of the resource that is being made; nobody can set them."""
_USE = re.compile(r"\$\$\{|\$\{([^}\n]*)(\})?")
_WHOLE = re.compile(r"\$\{[^}\n]*\}")
"""A text that is one variable and nothing else: what it holds decides what it is, in quotes or not. Inside {} and []
YAML wants the quotes."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Variable:
    """`mark`: where it is set; without a path for a built-in one."""

    text: str
    mark: Mark


Scope = Mapping[str, Variable]
Use = tuple[str, int, int]
"""The place where a variable that was used is set."""


class TooLarge(Exception):
    """The document would grow beyond the bound of a file."""


@dataclass(slots=True)
class Filling:
    """`scope_of` says which variables a text sees, by the place where it was written."""

    path: str
    scope_of: Callable[[Mark], Scope]
    used: set[Use] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    chars: int = 0
    _nodes: int = 0

    def fill(self, node: Node, pointer: str = "") -> Node:
        """Raises `TooLarge`."""
        self._nodes += 1
        match node:
            case Text():
                filled = self._text(node, pointer) if "${" in node.text else node
                self._weigh(len(filled.text))
                return filled
            case Array():
                items = tuple(self.fill(item, f"{pointer}/{number}") for number, item in enumerate(node.items))
                return Array(items, node.mark)
            case Table():
                return Table(tuple(self._entry(entry, pointer) for entry in node.entries), node.mark)

    def _entry(self, entry: Entry, pointer: str) -> Entry:
        self._weigh(len(entry.key))
        escaped = entry.key.replace("~", "~0").replace("/", "~1")
        return Entry(entry.key, entry.key_mark, self.fill(entry.value, f"{pointer}/{escaped}"))

    def _weigh(self, chars: int) -> None:
        self.chars += chars
        if self.chars > FILE_BYTES_MAX or self._nodes > NODES_MAX:
            raise TooLarge

    def _text(self, node: Text, pointer: str) -> Text:
        scope = self.scope_of(node.mark)
        told: list[str] = []
        room = FILE_BYTES_MAX - self.chars

        def value(match: re.Match[str]) -> str:
            nonlocal room
            text = "${" if match[0] == "$${" else self._value(match, scope, node.mark, pointer, told)
            room -= len(text)
            if room < 0:
                raise TooLarge
            return text

        text = _USE.sub(value, node.text)
        mark = dataclasses.replace(node.mark, via=", ".join(told[:3])) if told else node.mark
        plain = node.plain or bool(_WHOLE.fullmatch(node.text))
        return Text(text, plain and not says_nothing(text), mark)

    def _value(self, match: re.Match[str], scope: Scope, mark: Mark, pointer: str, told: list[str]) -> str:
        name = match[1]
        if not match[2] or not _NAME.fullmatch(name):
            shown = f"${{{name}}}" if re.fullmatch(r"[ -~]{0,40}", name) and match[2] else "${"
            fix = "write ${name} for a variable (letters, digits and _), or $${ for the two characters themselves"
            self._note(mark, pointer, "variable_invalid", f"{shown} is not a variable", fix)
            return ""
        variable = scope.get(name)
        if variable is None:
            self._note(
                mark, pointer, "variable_unset", f"the variable {key_name(name)} is not set", _unset(name, scope)
            )
            return ""
        if variable.mark.path:
            self.used.add((variable.mark.path, variable.mark.line, variable.mark.column))
            told.append(f"${{{name}}} is set at {variable.mark.path}:{variable.mark.line}")
        return variable.text

    def _note(self, mark: Mark, pointer: str, code: str, message: str, fix: str) -> None:
        self.findings.append(finding_at(mark, self.path, pointer, code, message, fix))


def _unset(name: str, scope: Scope) -> str:
    near = nearest(name, scope)
    meant = f"did you mean ${{{near}}}? Else set it" if near else "set it"
    return f"{meant} under spec.variables of a defaults.yaml above; $${{{name}}} writes the text itself"
