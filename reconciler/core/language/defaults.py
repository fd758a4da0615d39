"""Defaults of folders: what every manifest below a `defaults.yaml` inherits.

`context` reads each defaults file once and builds the `Chain` of a folder: its own file and those of the folders above.
The nearer file wins over the farther one, and within a file what is said for one environment over what is said for all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.core.findings import Finding
from reconciler.core.language.documents import Document
from reconciler.core.language.merge import get, left_over, merge
from reconciler.core.language.variables import BUILT_IN, Scope, Variable
from reconciler.core.schema import check, finding_at, pointer_join
from reconciler.core.yaml_reader import Entry, Mark, Node, Table, Text

PARTS = ("process", "route", "volume")
"""What a manifest can inherit, besides metadata and variables."""
ALL = ""
"""The section that holds for every environment."""


@dataclass(frozen=True, slots=True)
class DefaultsFile:
    """`sections`: environment (or ALL) -> its part of the document. `environments`: where they are named."""

    path: str
    blob: str
    metadata: Node | None
    sections: Mapping[str, Node]
    environments: Mapping[str, Mark]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Chain:
    """`files`: from the root down. `key`: their paths and blobs; equal keys mean the same inheritance. Everything asked
    of it is computed once."""

    files: tuple[DefaultsFile, ...] = ()
    key: tuple[tuple[str, str], ...] = ()
    _merged: dict[tuple[str, str], Node | None] = field(default_factory=dict)
    _scopes: dict[str, Scope] = field(default_factory=dict)
    _findings: tuple[Finding, ...] | None = None

    def metadata(self, *fields: str) -> Entry | None:
        """What the nearest file says about any of some fields of the metadata."""
        for file in reversed(self.files):
            if isinstance(file.metadata, Table):
                for entry in file.metadata.entries:
                    if entry.key in fields:
                        return entry
        return None

    def inherited(self, env: str, part: str) -> Node | None:
        """`part`: one of PARTS."""
        key = (env, part)
        if key not in self._merged:
            merged: Node | None = None
            for node in self._layers(env, part):
                merged = node if merged is None else merge(merged, node)
            self._merged[key] = merged
        return self._merged[key]

    def scope(self, env: str) -> Scope:
        """The variables that a manifest sees in an environment."""
        if env not in self._scopes:
            self._scopes[env] = {
                entry.key: Variable(entry.value.text, entry.value.mark)
                for node in self._layers(env, "variables")
                if isinstance(node, Table)
                for entry in node.entries
                if isinstance(entry.value, Text)
            }
        return self._scopes[env]

    def findings(self) -> tuple[Finding, ...]:
        """What the files say wrongly together: a null that takes nothing away."""
        if self._findings is None:
            named = {env for file in self.files for env in file.sections} | {ALL}
            every = itertools.product(sorted(named), PARTS)
            self._findings = tuple(dict.fromkeys(each for env, part in every for each in self._left_over(env, part)))
        return self._findings

    def _left_over(self, env: str, part: str) -> Iterator[Finding]:
        for node in left_over(self.inherited(env, part)):
            message, fix = "this takes away what no folder above has set", "write a value, or remove the line"
            yield finding_at(node.mark, "", pointer_join("/spec", part), "nothing_inherited", message, fix)

    def all_findings(self) -> Iterator[Finding]:
        """With what is wrong with each file in itself."""
        for file in self.files:
            yield from file.findings
        yield from self.findings()

    def _layers(self, env: str, part: str) -> Iterator[Node]:
        for file in self.files:
            for section in (ALL, env):
                node = get(file.sections.get(section), part)
                if node is not None:
                    yield node


def read_defaults(document: Document, path: str, blob: str) -> DefaultsFile:
    checked = check(document.node, "defaults.json", path, partial=True)
    findings = [*checked.findings, *_built_in(checked.key_marks, path)]
    if "/metadata/env" in checked.marks and "/metadata/envs" in checked.marks:
        fix = "keep one of the two"
        findings.append(
            finding_at(
                checked.marks["/metadata/envs"],
                path,
                "/metadata/envs",
                "env_twice",
                "env and envs exclude each other",
                fix,
            )
        )
    spec = get(document.node, "spec")
    environments = get(spec, "environments")
    named = environments.entries if isinstance(environments, Table) else ()
    sections = {entry.key: entry.value for entry in named}
    if spec is not None:
        sections[ALL] = spec
    marks = {entry.key: entry.key_mark for entry in named}
    return DefaultsFile(path, blob, get(document.node, "metadata"), sections, marks, tuple(findings))


def _built_in(key_marks: Mapping[str, Mark], path: str) -> Iterator[Finding]:
    for pointer, mark in key_marks.items():
        parent, _, name = pointer.rpartition("/")
        if name in BUILT_IN and parent.endswith("/variables"):
            message = f"the variable '{name}' is built in: it is the resource's own"
            yield finding_at(mark, path, pointer, "variable_built_in", message, "choose another name")
