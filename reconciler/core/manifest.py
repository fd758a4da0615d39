"""Manifests from bytes to declared resources, when all of them are at hand.

`trueup validate` reads a folder with `read_files`; the vault reads one Secret's file, which stands for itself, with
`read_file`. A commit is read by the same steps in `reconciler.git.tree_files`, which keeps what did not change.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.core.declared import Declared, ManifestFile, Scope, settle
from reconciler.core.findings import Finding
from reconciler.core.language.context import Context, Memory
from reconciler.core.language.documents import ParsedFile, parse_file
from reconciler.core.language.outline import outline
from reconciler.core.language.resolve import resolve_file
from reconciler.core.secret_file import ResolveSecret

__all__ = ["Declared", "ManifestFile", "Scope", "read_file", "read_files"]


def read_files(
    files: Iterable[ParsedFile], scope: Scope, resolve: ResolveSecret
) -> tuple[list[ManifestFile], list[Finding]]:
    """What each file declares, and what is wrong between them."""
    parsed = {file.path: file for file in files}
    outlines = {path: outline(file) for path, file in parsed.items()}
    context = Context(outlines, Memory())
    resolved = [resolve_file(file, outlines[path], context, scope) for path, file in parsed.items()]
    findings = list(context.findings(each.used for each in resolved))
    return [settle(each.file, resolve) for each in resolved], findings


def read_file(content: bytes, path: str, blob: str, scope: Scope, resolve: ResolveSecret) -> ManifestFile:
    """One file without the tree around it. `blob`: the Git object id of `content`."""
    files, _ = read_files([parse_file(content, path, blob)], scope, resolve)
    return files[0]
