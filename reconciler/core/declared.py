"""What a manifest file declares, and the last steps to it: identity, specification, sealed values.

`reconciler.core.language.resolve` calls `declare` for each resolved document; `settle` opens the secrets, in the
process that holds the platform's key; `reconciler.core.cross_checks` joins the files of a tree.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kit.codec import to_json
from reconciler.core.findings import Finding
from reconciler.core.model import NO_PART, Kind, Marks, Origin, Resource, ResourceId
from reconciler.core.normalise import NORMALISERS
from reconciler.core.schema import Checked, finding_at, pointer_join
from reconciler.core.secret_file import PLACE_KEY, ResolvedSecret, ResolveSecret, SecretManifest, SecretRefusal
from reconciler.core.sops import FORMATS, SopsUnreadable, parse_sops, sops_manifest
from reconciler.core.yaml_reader import Mark

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a source's configuration adds to every identity in it."""

    org: str
    project: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A resource that is good in itself. `places`: where each of its values was written, for what the whole tree may
    find wrong (`place_of`). `port`: a route's, as written. `secret`: what `settle` still has to open; the specification
    is empty until then. `secret_bytes`: what it then adds to a secret file."""

    resource: Resource
    places: str = "{}"
    port: str | int = 0
    secret: SecretManifest | None = None
    secret_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """`broken`: identities that are declared here with mistakes, so that nobody calls them unknown as well.
    `opaque`: some document could not even say what it declares. `overlaid`: what overlays in it lie over;
    `overlays_astray`: some overlay in it does not say over what. `blob`: the Git object id of the content."""

    path: str
    declared: tuple[Declared, ...] = ()
    broken: tuple[ResourceId, ...] = ()
    opaque: bool = False
    findings: tuple[Finding, ...] = ()
    overlaid: tuple[ResourceId, ...] = ()
    overlays_astray: bool = False
    blob: str = ""


def declare(
    kind: Kind, identity: ResourceId, checked: Checked, origin: Origin, blob: str
) -> tuple[Declared | None, list[Finding]]:
    """From a document that fits its schema. None when there are findings."""
    findings: list[Finding] = []

    def note(pointer: str, code: str, message: str, fix: str) -> None:
        mark = nearest_mark(checked.marks, pointer)
        findings.append(finding_at(mark, origin.path, pointer, code, message, fix))

    given = checked.document.get("spec", {})
    marks = _marks(kind, checked, note)
    if kind == "secret":
        secret, beginnings = _sealed(given, identity, checked, blob, origin.path, findings)
        places = pack_places({**checked.marks, **beginnings}, origin.path)
        return (
            (None, findings)
            if findings
            else (Declared(Resource(identity, {}, origin, marks), places, secret=secret), [])
        )
    places = pack_places(checked.marks, origin.path)
    spec = to_json(NORMALISERS[kind](given, note))
    port = given["port"] if kind == "route" else 0
    return (None, findings) if findings else (Declared(Resource(identity, spec, origin, marks), places, port), [])


def _sealed(
    given: Mapping[str, Any], identity: ResourceId, checked: Checked, blob: str, path: str, findings: list[Finding]
) -> tuple[SecretManifest, Mapping[str, Mark]]:
    """With where each value begins, for those that stand inside of a SOPS document."""
    if "sops" in checked.document:
        return _sealed_whole(identity, checked, blob, path, findings), {}
    for key, value in given.get("values", {}).items():
        if not value.startswith("-----BEGIN"):
            pointer = pointer_join("/spec/values", key)
            why = f"the value of {key} is not encrypted, or the part of the file is gone that sops wrote below it"
            fix = "encrypt it with: trueup secret seal; if a plain value was pushed, treat it as known and change it"
            mark = nearest_mark(checked.marks, pointer)
            findings.append(finding_at(mark, path, pointer, "secret_not_encrypted", why, fix))
    form, text = next(((form, given["sops"][form]) for form in FORMATS if form in given.get("sops", {})), ("", ""))
    if not form:  # or neither is there, and there is a finding about a field that is none
        return SecretManifest(identity, given.get("values", {}), blob), {}
    pointer = pointer_join("/spec/sops", form)
    start = nearest_mark(checked.marks, pointer)

    def mark_at(line: int) -> Mark:
        """The document's first line is the one below its `|`."""
        return Mark(start.line + line, 1, start.path) if line and "\n" in text else start

    try:
        parsed = parse_sops(form, text)
    except SopsUnreadable as error:
        findings.append(finding_at(mark_at(error.line), path, pointer, error.code, error.why, error.fix))
        return SecretManifest(identity, {}, blob), {}
    values = {key: value for key, value in parsed.document.values if key != PLACE_KEY}
    beginnings = {pointer_join("/spec/values", key): mark_at(line) for key, line in parsed.lines.items()}
    whole = {"/spec/values": start}
    return SecretManifest(identity, values, blob, parsed.document), {**whole, **beginnings}


def _sealed_whole(
    identity: ResourceId, checked: Checked, blob: str, path: str, findings: list[Finding]
) -> SecretManifest:
    """A manifest that sops encrypted as it stands."""
    given = checked.document["spec"].get("values", {})
    marks = {key: nearest_mark(checked.marks, pointer_join("/spec/values", key)) for key in given}
    try:
        document = sops_manifest(checked.document, {key: mark.line for key, mark in marks.items()})
    except SopsUnreadable as error:
        key = next((key for key, mark in marks.items() if error.line and mark.line == error.line), "")
        pointer = pointer_join("/spec/values", key) if key else "/sops"
        mark = nearest_mark(checked.marks, pointer)
        findings.append(finding_at(mark, path, pointer, error.code, error.why, error.fix))
        return SecretManifest(identity, {}, blob)
    values = {key: value for key, value in document.values if key != PLACE_KEY}
    return SecretManifest(identity, values, blob, document)


def _marks(kind: Kind, checked: Checked, note: Callable[[str, str, str, str], None]) -> Marks:
    metadata = checked.document["metadata"]
    protect, removal = metadata.get("protect", False), metadata.get("removal", "")
    if removal and kind == "route":
        message = "the removal of a route needs no confirmation: it goes with its manifest"
        note("/metadata/removal", "removal_needless", message, "remove this line")
    if protect and removal:
        message = "it is protected, and its removal is confirmed: one of the two is not meant"
        note("/metadata/removal", "protected_and_removed", message, "keep one of the two")
    return Marks(protect, removal, nearest_mark(checked.marks, "/metadata/protect").line if protect else 0)


def settle(file: ManifestFile, resolve: ResolveSecret) -> ManifestFile:
    """The file with its secrets opened. One that cannot be is broken, with a finding at the value; what is still
    accepted and should not stay is a warning there."""
    if all(each.secret is None for each in file.declared):
        return file
    declared: list[Declared] = []
    broken, findings = list(file.broken), list(file.findings)
    for each in file.declared:
        if each.secret is None:
            declared.append(each)
            continue
        try:
            resolved = resolve(each.secret)
        except SecretRefusal as refusal:
            broken.append(each.resource.id)
            findings.append(_told(each, refusal.key, refusal.code, str(refusal.why), refusal.fix))
        else:
            declared.append(_opened(each, resolved))
            told = (_told(each, note.key, note.code, note.message, note.fix) for note in resolved.notes)
            findings.extend(dataclasses.replace(finding, severity="warning") for finding in told)
    return dataclasses.replace(file, declared=tuple(declared), broken=tuple(broken), findings=tuple(findings))


def _told(each: Declared, key: str, code: str, message: str, fix: str) -> Finding:
    pointer = pointer_join("/spec/values", key) if key else "/spec/values"
    return finding_at(place_of(each, pointer), each.resource.origin.path, pointer, code, message, fix)


def _opened(each: Declared, resolved: ResolvedSecret) -> Declared:
    resource = dataclasses.replace(each.resource, spec=to_json(resolved.spec))
    return dataclasses.replace(each, resource=resource, secret=None, secret_bytes=resolved.file_bytes)


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


def pack_places(marks: Mapping[str, Mark], path: str) -> str:
    """As text, because there are many and they are asked for only when something is wrong."""
    packed = {
        pointer: [mark.line, mark.column, "" if mark.path == path else mark.path, mark.via]
        for pointer, mark in marks.items()
    }
    return json.dumps(packed, separators=(",", ":"))


def place_of(each: Declared, pointer: str) -> Mark:
    """Where the value at a pointer was written, or the nearest thing around it."""
    marks = {
        known: Mark(line, column, path or each.resource.origin.path, via)
        for known, (line, column, path, via) in json.loads(each.places).items()
    }
    return nearest_mark(marks, pointer)


def nearest_mark(marks: Mapping[str, Mark], pointer: str) -> Mark:
    """The place of a pointer, or of the nearest thing around it that is written down."""
    while pointer not in marks and pointer:
        pointer = pointer.rpartition("/")[0]
    return marks.get(pointer, Mark(0, 0))
