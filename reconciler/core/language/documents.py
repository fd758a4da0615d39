"""One file: from its bytes to documents of a known kind, each still as it was written.

Called for each blob that is new, by `reconciler.git.tree_files`, and for files on disk. A document with a mistake does
not hide the others: all findings of a file come back together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.core.findings import Finding, nearest
from reconciler.core.schema import finding_at
from reconciler.core.sops import SOPS_COMMAND
from reconciler.core.yaml_reader import Node, Table, Text, read_documents

API_VERSION = "trueup/v1"
DECLARING_KINDS = {
    "App": "app",
    "Environment": "environment",
    "Route": "route",
    "Secret": "secret",
    "Volume": "volume",
}
"""Documents of these kinds declare resources."""
KINDS = {**DECLARING_KINDS, "Defaults": "defaults", "Overlay": "overlay"}
DEFAULTS_FILES = frozenset(("defaults.yaml", "defaults.yml"))


@dataclass(frozen=True, slots=True)
class Document:
    """`kind` is the lower-case word of `KINDS`."""

    kind: str
    node: Table


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """`blob`: the Git object id of the content. `opaque`: some document could not even say what it declares."""

    path: str
    blob: str
    size_bytes: int
    documents: tuple[Document, ...] = ()
    findings: tuple[Finding, ...] = ()
    opaque: bool = False


def parse_file(content: bytes, path: str, blob: str) -> ParsedFile:
    nodes, findings = read_documents(content, path)
    opaque = bool(findings)
    documents: list[Document] = []
    for node in nodes:
        found = _document(node, path)
        if isinstance(found, Document):
            documents.append(found)
        else:
            findings.append(found)
            opaque = True
    findings.extend(_misplaced(documents, path))
    findings.extend(_not_alone(documents, len(nodes), path))
    return ParsedFile(path, blob, len(content), tuple(documents), tuple(findings), opaque)


def is_defaults_file(path: str) -> bool:
    return path.rpartition("/")[2] in DEFAULTS_FILES


def _document(node: Node, path: str) -> Document | Finding:
    """The first question is the kind, because the answer chooses the schema."""
    if not isinstance(node, Table):
        fix = "begin with apiVersion: trueup/v1"
        return finding_at(node.mark, path, "", "not_a_manifest", "a manifest is a mapping of fields", fix)
    head = {entry.key: entry.value for entry in node.entries if isinstance(entry.value, Text)}
    version, kind = head.get("apiVersion"), head.get("kind")
    if version is None or kind is None:
        missing = "apiVersion" if version is None else "kind"
        fix = "write apiVersion: trueup/v1 and a kind; files that are no manifests belong outside the source's path"
        return finding_at(node.mark, path, "", "field_missing", f"the manifest needs the field '{missing}'", fix)
    if version.text.startswith("ENC["):
        message = "sops encrypted the whole manifest, also what it is and what it is for"
        fix = f"decrypt it, and encrypt its values alone: {SOPS_COMMAND} {path or 'FILE'}"
        return finding_at(version.mark, path, "/apiVersion", "sops_encrypts_all", message, fix)
    if version.text != API_VERSION:
        message, fix = f"apiVersion{_shown(version)} is not known", f"write apiVersion: {API_VERSION}"
        return finding_at(version.mark, path, "/apiVersion", "api_version_unknown", message, fix)
    if kind.text not in KINDS:
        near = nearest(kind.text, KINDS)
        fix = f"did you mean '{near}'?" if near else f"known are {', '.join(KINDS)}"
        return finding_at(kind.mark, path, "/kind", "kind_unknown", f"the kind{_shown(kind)} is not known", fix)
    return Document(KINDS[kind.text], node)


def _misplaced(documents: list[Document], path: str) -> list[Finding]:
    """Defaults act on a whole folder, so a reader must know where to look for them: in one file of one name."""
    reserved = is_defaults_file(path)
    found = []
    for number, document in enumerate(documents):
        fix = "move it to another file"
        if reserved and document.kind != "defaults":
            message = "a defaults file holds nothing but Defaults"
        elif not reserved and document.kind == "defaults":
            message, fix = (
                "Defaults stand in a file of their own",
                "move them to defaults.yaml in the folder they are for",
            )
        elif reserved and number > 0:
            message, fix = "a defaults file holds one document", "put the two together"
        else:
            continue
        found.append(finding_at(document.node.mark, path, "", "defaults_misplaced", message, fix))
    return found


def _not_alone(documents: list[Document], count: int, path: str) -> list[Finding]:
    """sops has one MAC over all documents of a file."""
    whole = [
        entry for each in documents for entry in each.node.entries if entry.key == "sops" and each.kind == "secret"
    ]
    if count < 2 or not whole:
        return []
    message, fix = "a file that sops encrypted holds one document", "put each Secret into a file of its own"
    return [finding_at(each.key_mark, path, "/sops", "sops_several_documents", message, fix) for each in whole]


def _shown(text: Text) -> str:
    return f" '{text.text}'" if re.fullmatch(r"[A-Za-z0-9/._-]{1,60}", text.text) else ""
