"""Which resources a document is about: its environments, its app, its name, with what the folder's defaults add.

Used for what declares resources and for overlays. Everything here is only text until the schema has seen it.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.findings import Finding
from reconciler.core.language.defaults import Chain
from reconciler.core.language.merge import get, put, without
from reconciler.core.schema import check, finding_at
from reconciler.core.yaml_reader import Array, Mark, Node, Table, Text

IN_APPS = ("route", "volume")
"""Kinds whose metadata names an app that a folder's defaults may supply. A Secret's may not: it is sealed for it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A resource's identity inside its source. `app`: an app's own name for an app."""

    kind: str
    env: str
    app: str
    name: str

    @property
    def short(self) -> str:
        """As `ResourceId.short` says it."""
        parts = (self.env, "app", self.name) if self.kind == "app" else (self.env, self.app, self.kind, self.name)
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Environments:
    """`marks`: where each environment is named."""

    envs: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    findings: tuple[Finding, ...] = ()


def environments_of(table: Table, chain: Chain, path: str, pointer: str) -> Environments:
    """`env` or `envs` of a metadata or target; else those of the nearest defaults that name any. None and no finding:
    nothing names one, and the schema will say so."""
    one, many = get(table, "env"), get(table, "envs")
    if one is not None and many is not None:
        message, fix = "env and envs exclude each other", "keep one of the two"
        return Environments(findings=(finding_at(many.mark, path, f"{pointer}/envs", "env_twice", message, fix),))
    if one is None and many is None and (entry := chain.metadata("env", "envs")):
        one, many = (entry.value, None) if entry.key == "env" else (None, entry.value)
    if many is not None:
        return _several(many, path, f"{pointer}/envs")
    if isinstance(one, Text):
        return Environments((one.text,), (one.mark,))
    return Environments()


def _several(node: Node, path: str, pointer: str) -> Environments:
    findings = check(node, "common.json#/$defs/envs", path, at=pointer).findings
    if findings or not isinstance(node, Array):
        return Environments(findings=tuple(findings))
    names = [each for each in node.items if isinstance(each, Text)]
    return Environments(tuple(each.text for each in names), tuple(each.mark for each in names))


def in_environment(table: Table, chain: Chain, kind: str, env: str, mark: Mark) -> Table:
    """The metadata or target of one resource: with one environment, and the app that the folder's defaults name."""
    return put(without(with_app(table, chain, kind), "envs"), "env", Text(env, True, mark), mark)


def with_app(table: Table, chain: Chain, kind: str) -> Table:
    entry = chain.metadata("app") if kind in IN_APPS and get(table, "app") is None else None
    return table if entry is None else put(table, "app", entry.value, entry.key_mark)


def targets_of(kind: str, table: Table, chain: Chain) -> tuple[Target, ...]:
    """As far as the names can be read."""
    name, app = texts(with_app(table, chain, kind), "name", "app")
    owner = name if kind == "app" else app
    if name is None or owner is None:
        return ()
    return tuple(Target(kind, env, owner, name) for env in environments_of(table, chain, "", "").envs)


def texts(node: Node | None, *keys: str) -> tuple[str | None, ...]:
    """The texts of some fields, None where there is none."""
    found = [get(node, key) for key in keys]
    return tuple(each.text if isinstance(each, Text) else None for each in found)
