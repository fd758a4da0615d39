"""Manifests from bytes to declared resources, when all of them are at hand.

`trueup validate` reads a folder with `read_files`; a Secret's file stands for itself and is read with `sealed_in`. A
commit is read by the same steps in `reconciler.git.tree_files`, which keeps what did not change.
"""

from __future__ import annotations

from collections.abc import Iterable

from kit.errors import Refusal
from reconciler.core.declared import Declared, ManifestFile, Scope, settle
from reconciler.core.findings import Finding
from reconciler.core.language.context import Context, Memory
from reconciler.core.language.documents import ParsedFile, parse_file
from reconciler.core.language.outline import outline
from reconciler.core.language.resolve import resolve_file
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import ResolveSecret, SecretManifest

__all__ = ["Declared", "ManifestFile", "Scope", "read_file", "read_files", "sealed_in"]


def read_files(
    files: Iterable[ParsedFile], scope: Scope, resolve: ResolveSecret
) -> tuple[list[ManifestFile], list[Finding]]:
    """What each file declares, and what is wrong between them."""
    parsed = {file.path: file for file in files}
    outlines = {path: outline(file) for path, file in parsed.items()}
    context = Context(outlines, Memory())
    resolved = [resolve_file(file, outlines[path], context, scope) for path, file in parsed.items()]
    findings = list(context.findings(frozenset().union(*(each.used for each in resolved))))
    return [settle(each.file, resolve) for each in resolved], findings


def sealed_in(content: bytes, secret: ResourceId) -> SecretManifest:
    """One secret, still encrypted, in the manifest file that its specification's `blob` names."""
    parsed = parse_file(content, "", "")
    of = outline(parsed)
    context = Context({"": of}, Memory())
    file = resolve_file(parsed, of, context, Scope(secret.org, secret.project)).file
    for each in file.declared:
        if each.resource.id == secret and each.secret is not None:
            return each.secret
    why = file.findings[0].message if file.findings else "the file does not declare it"
    raise Refusal(f"read the secret {secret.short}", why, code="secrets_missing")


def read_file(content: bytes, path: str, blob: str, scope: Scope, resolve: ResolveSecret) -> ManifestFile:
    """One file without the tree around it. `blob`: the Git object id of `content`."""
    files, _ = read_files([parse_file(content, path, blob)], scope, resolve)
    return files[0]
