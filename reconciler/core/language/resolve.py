"""One file, with everything that its resources inherit, to declared resources or findings.

Called by `reconciler.git.tree_files` for each file whose `Context.inputs` changed. The order, weak to strong: the
defaults of the folders from the root down, the manifest itself, its overlay. Then the variables are filled in, and the
whole goes through the same schema and the same checks as a manifest that was written out in full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from reconciler.core.declared import Declared, ManifestFile, declare, identity_of
from reconciler.core.declared import Scope as SourceScope
from reconciler.core.findings import Finding
from reconciler.core.language.context import Context
from reconciler.core.language.documents import Document, ParsedFile
from reconciler.core.language.inherit import inherit
from reconciler.core.language.merge import get, put
from reconciler.core.language.outline import IN_FOLDERS, Outline
from reconciler.core.language.overlays import Overlay
from reconciler.core.language.targets import Target, environments_of, in_environment, texts
from reconciler.core.language.variables import Filling, Scope, TooLarge, Use, Variable
from reconciler.core.model import Kind, Origin, ResourceId
from reconciler.core.schema import check, finding_at
from reconciler.core.yaml_reader import FILE_BYTES_MAX, Mark, Table

_NOBODY = "none"
"""An environment to look at the rest of a document with, when its own cannot be read."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """`used`: the variables, by where they are set. `chars`: how much text the resources hold."""

    file: ManifestFile
    used: frozenset[Use]
    chars: int


def resolve_file(parsed: ParsedFile, of: Outline, context: Context, scope: SourceScope) -> Resolved:
    resolving = _File(parsed, context, scope)
    resolving.findings += context.overlay_findings(of)
    resolving.findings += of.defaults.findings if of.defaults else ()
    for document in parsed.documents:
        resolving.document(document)
    findings = tuple(dict.fromkeys(resolving.findings))
    overlaid, astray = _overlaid(of, context, scope)
    file = ManifestFile(
        parsed.path,
        tuple(resolving.declared),
        tuple(resolving.broken),
        resolving.opaque,
        findings,
        overlaid,
        astray,
        parsed.blob,
    )
    return Resolved(file, frozenset(resolving.used), resolving.chars)


def _overlaid(of: Outline, context: Context, scope: SourceScope) -> tuple[tuple[ResourceId, ...], bool]:
    """What the overlays of the file lie over, and whether one of them does not say."""
    targets, astray = context.overlaid(of)
    named = [
        identity_of(cast(Kind, each.kind), {"name": each.name, "env": each.env, "app": each.app}, scope)
        for each in targets
    ]
    return tuple(each for each in named if each is not None), astray or None in named


class _File:
    def __init__(self, parsed: ParsedFile, context: Context, scope: SourceScope) -> None:
        self.findings = list(parsed.findings)
        self.declared: list[Declared] = []
        self.broken: list[ResourceId] = []
        self.opaque = parsed.opaque
        self.used: set[Use] = set()
        self.chars = 0
        self._path = parsed.path
        self._blob = parsed.blob
        self._context = context
        self._chain = context.chain(parsed.path)
        self._scope = scope

    def document(self, document: Document) -> None:
        metadata = get(document.node, "metadata")
        if document.kind in IN_FOLDERS and isinstance(metadata, Table):
            self._in_folder(document, metadata)
        elif document.kind in IN_FOLDERS or document.kind == "secret":
            self._finish(document, document.node, ())
        elif document.kind == "environment":
            name = texts(metadata, "name")[0] or ""
            self._fill_and_finish(document, document.node, Target("environment", name, "", name), None)

    def _in_folder(self, document: Document, metadata: Table) -> None:
        found = environments_of(metadata, self._chain, self._path, "/metadata")
        self.findings += found.findings
        for env, mark in zip(found.envs, found.marks, strict=True):
            self._in_environment(document, in_environment(metadata, self._chain, document.kind, env, mark))
        if found.findings:
            self._in_environment(document, in_environment(metadata, self._chain, document.kind, _NOBODY, metadata.mark))
            self.opaque = True
        elif not found.envs:
            self._in_environment(document, metadata)

    def _in_environment(self, document: Document, metadata: Table) -> None:
        name, app, env = (text or "" for text in texts(metadata, "name", "app", "env"))
        target = Target(document.kind, env, name if document.kind == "app" else app, name)
        overlay = self._context.overlay(target)
        node = put(document.node, "metadata", metadata)
        spec = inherit(target, node, self._chain, overlay)
        self._fill_and_finish(document, node if spec is None else put(node, "spec", spec), target, overlay)

    def _fill_and_finish(self, document: Document, node: Table, target: Target, overlay: Overlay | None) -> None:
        filling = Filling(self._path, self._scopes(target, overlay))
        spec = get(node, "spec")
        try:
            filled = filling.fill(spec, "/spec") if spec is not None else None
        except TooLarge:
            message = f"{target.short} grows beyond {FILE_BYTES_MAX} bytes with what it inherits"
            fix = "make its defaults and variables smaller"
            self.findings.append(finding_at(node.mark, self._path, "", "document_too_large", message, fix))
            self.opaque = True
            return
        self.used |= filling.used
        self.chars += filling.chars
        self.findings += filling.findings
        told = [*filling.findings, *self._chain.all_findings(), *(overlay.findings if overlay else ())]
        whole = node if filled is None else put(node, "spec", filled)
        self._finish(document, whole, told, unfilled=bool(filling.findings))

    def _scopes(self, target: Target, overlay: Overlay | None) -> _Scopes:
        own = {"env": target.env, "name": target.name, **({"app": target.app} if target.app else {})}
        built_in = {name: Variable(text, Mark(0, 0)) for name, text in own.items()}
        mine = {**self._chain.scope(target.env), **built_in}
        if overlay is None or overlay.path == self._path:
            return _Scopes(mine, "", mine)
        return _Scopes(mine, overlay.path, {**overlay.chain.scope(target.env), **built_in})

    def _finish(self, document: Document, node: Table, told: Iterable[Finding], *, unfilled: bool = False) -> None:
        """`told`: what is said already; a consequence at the same place is no news."""
        kind: Kind = document.kind  # type: ignore[assignment]  # the callers leave the other kinds out
        checked = check(node, f"{kind}.json", self._path)
        identity = identity_of(kind, checked.document.get("metadata"), self._scope)
        places = {(each.path, each.line, each.column) for each in told}
        wrong = list(checked.findings)
        declared: Declared | None = None
        if identity and all(each.code == "unknown_field" for each in wrong):
            origin = Origin(self._path, document.node.mark.line)
            declared, more = declare(kind, identity, checked, origin, self._blob)
            wrong += more
        self.findings += [each for each in wrong if (each.path, each.line, each.column) not in places]
        if declared and not wrong and not unfilled:
            self.declared.append(declared)
        elif identity:
            self.broken.append(identity)
        else:
            self.opaque = True


@dataclass(frozen=True, slots=True)
class _Scopes:
    """Which variables a text sees: those of the folder that the manifest lies in, also in what it inherits; a patch
    those of the overlay's folder."""

    mine: Scope
    overlay_path: str
    overlay: Scope

    def __call__(self, mark: Mark) -> Scope:
        return self.overlay if mark.path == self.overlay_path else self.mine
