"""One manifest file: from its bytes to declared resources, or to findings that name line, column and field.

`reconciler.git.tree_reader` calls `read_file` for each changed blob (and `trueup validate` for files on disk), keeps
the results, and joins them with `reconciler.core.cross_checks.assemble`. A document with a mistake does not hide the
others: all findings of a file come back together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kit.codec import to_json
from reconciler.core.findings import Finding, nearest
from reconciler.core.model import NO_PART, Kind, Origin, Resource, ResourceId
from reconciler.core.normalise import NORMALISERS
from reconciler.core.schema import Checked, check, pointer_join
from reconciler.core.secret_file import ResolveSecret, SecretManifest, SecretRefusal
from reconciler.core.yaml_reader import Mark, Node, Table, Text, read_documents

API_VERSION = "trueup/v1"
MANIFEST_KINDS: dict[str, Kind] = {
    "App": "app",
    "Environment": "environment",
    "Route": "route",
    "Secret": "secret",
    "Volume": "volume",
}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a source's configuration adds to every identity in it."""

    org: str
    project: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A resource that is good in itself. `marks`: JSON pointer -> place, for what the whole tree may find wrong.
    `port`: a route's, as written. `secret_bytes`: what a secret adds to a secret file."""

    resource: Resource
    marks: Mapping[str, Mark] = field(default_factory=dict)
    port: str | int = 0
    secret_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """`broken`: identities that are declared here with mistakes, so that nobody calls them unknown as well.
    `opaque`: some document could not even say what it declares."""

    path: str
    declared: tuple[Declared, ...] = ()
    broken: tuple[ResourceId, ...] = ()
    opaque: bool = False
    findings: tuple[Finding, ...] = ()


def read_file(content: bytes, path: str, blob: str, scope: Scope, resolve: ResolveSecret) -> ManifestFile:
    """`blob`: the Git object id of `content`."""
    documents, findings = read_documents(content, path)
    opaque = bool(findings)
    declared: list[Declared] = []
    broken: list[ResourceId] = []
    for node in documents:
        reading = _Document(node, path, blob, scope, resolve)
        result = reading.read()
        findings.extend(reading.findings)
        if result:
            declared.append(result)
        elif reading.identity:
            broken.append(reading.identity)
        else:
            opaque = True
    return ManifestFile(path, tuple(declared), tuple(broken), opaque, tuple(findings))


class _Document:
    """The reading of one document."""

    def __init__(self, node: Node, path: str, blob: str, scope: Scope, resolve: ResolveSecret) -> None:
        self.findings: list[Finding] = []
        self.identity: ResourceId | None = None
        self._node = node
        self._path = path
        self._blob = blob
        self._scope = scope
        self._resolve = resolve

    def read(self) -> Declared | None:
        kind = self._kind()
        if kind is None:
            return None
        checked = check(self._node, kind, self._path)
        self.findings.extend(checked.findings)
        self.identity = identity_of(kind, checked.document.get("metadata"), self._scope)
        if self.identity is None or any(finding.code != "unknown_field" for finding in self.findings):
            return None
        result = self._secret(checked) if kind == "secret" else self._other(kind, checked)
        return None if self.findings else result

    def _kind(self) -> Kind | None:
        """The first question, because the answer chooses the schema."""
        if not isinstance(self._node, Table):
            fix = "begin with apiVersion: trueup/v1"
            self._note(self._node.mark, "", "not_a_manifest", "a manifest is a mapping of fields", fix)
            return None
        head = {entry.key: entry.value for entry in self._node.entries if isinstance(entry.value, Text)}
        version, kind = head.get("apiVersion"), head.get("kind")
        if version is None or kind is None:
            missing = "apiVersion" if version is None else "kind"
            fix = "write apiVersion: trueup/v1 and a kind; files that are no manifests belong outside the source's path"
            self._note(self._node.mark, "", "field_missing", f"the manifest needs the field '{missing}'", fix)
            return None
        if version.text != API_VERSION:
            message = f"apiVersion{_shown(version)} is not known"
            self._note(version.mark, "/apiVersion", "api_version_unknown", message, f"write apiVersion: {API_VERSION}")
            return None
        if kind.text not in MANIFEST_KINDS:
            near = nearest(kind.text, MANIFEST_KINDS)
            fix = f"did you mean '{near}'?" if near else f"known are {', '.join(MANIFEST_KINDS)}"
            self._note(kind.mark, "/kind", "kind_unknown", f"the kind{_shown(kind)} is not known", fix)
            return None
        return MANIFEST_KINDS[kind.text]

    def _secret(self, checked: Checked) -> Declared | None:
        assert self.identity
        values = checked.document["spec"]["values"]
        try:
            resolved = self._resolve(SecretManifest(self.identity, values, self._blob))
        except SecretRefusal as refusal:
            pointer = pointer_join("/spec/values", refusal.key) if refusal.key else "/spec/values"
            self._note(checked.marks[pointer], pointer, refusal.code, str(refusal.why), refusal.fix)
            return None
        return Declared(self._resource(resolved.spec), checked.marks, secret_bytes=resolved.file_bytes)

    def _other(self, kind: Kind, checked: Checked) -> Declared | None:
        def note(pointer: str, code: str, message: str, fix: str) -> None:
            self._note(nearest_mark(checked.marks, pointer), pointer, code, message, fix)

        given = checked.document.get("spec", {})
        spec = NORMALISERS[kind](given, note)
        return Declared(self._resource(spec), checked.marks, port=given["port"] if kind == "route" else 0)

    def _resource(self, spec: Any) -> Resource:
        assert self.identity
        return Resource(self.identity, to_json(spec), Origin(self._path, self._node.mark.line))

    def _note(self, mark: Mark, pointer: str, code: str, message: str, fix: str) -> None:
        self.findings.append(Finding(self._path, mark.line, mark.column, pointer, code, message, fix))


def identity_of(kind: Kind, metadata: Any, scope: Scope) -> ResourceId | None:
    """None unless every part that the kind needs is there and is a name."""
    if not isinstance(metadata, Mapping):
        return None
    name = metadata.get("name")
    env = name if kind == "environment" else metadata.get("env")
    app = {"environment": NO_PART, "app": name}.get(kind, metadata.get("app"))
    parts = [name, env] if kind == "environment" else [name, env, app]
    if not all(isinstance(part, str) and _NAME.fullmatch(part) for part in parts):
        return None
    return ResourceId(scope.org, scope.project, str(env), str(app), kind, str(name))


def nearest_mark(marks: Mapping[str, Mark], pointer: str) -> Mark:
    """The place of a pointer, or of the nearest thing around it that is written down."""
    while pointer not in marks and pointer:
        pointer = pointer.rpartition("/")[0]
    return marks.get(pointer, Mark(0, 0))


def _shown(text: Text) -> str:
    return f" '{text.text}'" if re.fullmatch(r"[A-Za-z0-9/._-]{1,60}", text.text) else ""
