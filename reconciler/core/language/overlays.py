"""Overlays: what is different about one resource in one environment.

`context` reads each Overlay document once per chain of defaults that it lies under. An overlay names its target by
identity, so that moving either file changes nothing, and a reviewer sees in the diff which resource is meant. One
resource has at most one overlay: two that disagree would need an order that nobody sees.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.findings import Finding
from reconciler.core.language.defaults import Chain
from reconciler.core.language.documents import KINDS, Document
from reconciler.core.language.merge import get, put, without
from reconciler.core.language.targets import Target, environments_of, in_environment, targets_of, texts, with_app
from reconciler.core.schema import check
from reconciler.core.yaml_reader import Mark, Node, Table

PATCHABLE = {
    "app": "app.json#/properties/spec",
    "route": "route.json#/properties/spec",
    "volume": "volume.json#/properties/spec",
}
"""Kind -> the schema of what a patch may say. An Environment has nothing to patch, and a Secret's values are sealed for
one place: it is written there."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """`key`: changes when anything does that the overlay says or sees. `findings`: of its document."""

    path: str
    key: tuple[object, ...]
    mark: Mark
    chain: Chain
    target: Target
    patch: Node
    findings: tuple[Finding, ...]
    document_line: int


def read_overlay(document: Document, path: str, blob: str, chain: Chain) -> tuple[list[Overlay], list[Finding]]:
    """One `Overlay` for each environment that it names, none when it cannot be said which; and its findings."""
    target, patch = get(document.node, "target"), get(document.node, "patch")
    kind = KINDS.get(texts(target, "kind")[0] or "", "")
    findings = _wrong(document, kind, path, chain)
    if kind not in PATCHABLE or not isinstance(target, Table) or patch is None:
        return [], findings
    if isinstance(patch, Table):
        findings += check(patch, PATCHABLE[kind], path, at="/patch", partial=True).findings
    key = (path, blob, document.node.mark.line, chain.key)
    return [
        Overlay(path, key, target.mark, chain, each, patch, tuple(findings), document.node.mark.line)
        for each in targets_of(kind, target, chain)
    ], findings


def _wrong(document: Document, kind: str, path: str, chain: Chain) -> list[Finding]:
    """What the schema says, once the target is completed from the folder's defaults."""
    node, target = document.node, get(document.node, "target")
    if not isinstance(target, Table):
        return check(node, "overlay.json", path).findings
    found = environments_of(target, chain, path, "/target")
    if found.envs:
        completed = in_environment(target, chain, kind, found.envs[0], found.marks[0])
    else:
        completed = with_app(without(target, *(("env", "envs") if found.findings else ())), chain, kind)
    findings = check(put(node, "target", completed), "overlay.json", path).findings
    if found.findings:  # that the environment is missing follows from them
        findings = [each for each in findings if each.pointer != "/target"]
    return [*found.findings, *findings]
