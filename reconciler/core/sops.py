"""SOPS documents with age recipients, as they stand in Secret manifests (the format of github.com/getsops/sops).

`reconciler.core.declared` calls `parse_sops` with the text of `spec.sops`, or `sops_manifest` with a manifest that sops
encrypted itself, in the process that reads repositories: what leaves it is a few texts of known shapes, and
`reconciler.vault.sops_values` has only to decrypt. One level of keys, all of whose values are encrypted. What is not
for us in a document (other key services, comments) is passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reconciler.core.secret_file import KEYS_MAX, PLACE_KEY, SopsDocument
from reconciler.core.yaml_reader import Array, Node, Table, Text, read_documents

FORMATS = ("dotenv", "json", "yaml")
SOPS_COMMAND = "sops encrypt --in-place --age RECIPIENT --encrypted-regex '^values$'"
AGE_KEYS_MAX = 20
"""Each one may cost a try with every key of the platform."""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_ENCRYPTED = re.compile(r"ENC\[AES256_GCM,data:[A-Za-z0-9+/=]+,iv:[A-Za-z0-9+/=]+,tag:[A-Za-z0-9+/=]+,type:[a-z0-9]+\]")
_ARMORED = re.compile(
    r"-----BEGIN AGE ENCRYPTED FILE-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END AGE ENCRYPTED FILE-----\n*"
)
_FLAT_AGE_KEY = re.compile(r"sops_age__list_([0-9]{1,3})__map_enc")
_METADATA = "sops"
_MAJOR = "3"
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,20}")
_OTHER_KEYS = ("kms", "gcp_kms", "azure_kv", "hckms", "hc_vault", "pgp")


class SopsUnreadable(Exception):
    """`line` counts from 1 in the document; 0: the whole."""

    def __init__(self, line: int, why: str, fix: str, code: str = "sops_invalid") -> None:
        super().__init__(why)
        self.line = line
        self.why = why
        self.fix = fix
        self.code = code


@dataclass(frozen=True, slots=True)
class ParsedSops:
    """`lines`: where each key stands in the document."""

    document: SopsDocument
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Leaf:
    key: str
    value: object
    line: int


def parse_sops(form: str, text: str) -> ParsedSops:
    """`form`: one of `FORMATS`. Raises `SopsUnreadable`; no value is in its words."""
    leaves, metadata = {"dotenv": _dotenv, "json": _json, "yaml": _yaml}[form](text)
    if not metadata:
        raise SopsUnreadable(0, "it has no sops metadata, so it is not encrypted", _ENCRYPT, "secret_not_encrypted")
    return ParsedSops(_document(leaves, metadata), {leaf.key: leaf.line for leaf in leaves})


def sops_manifest(manifest: Mapping[str, Any], lines: Mapping[str, int]) -> SopsDocument:
    """Of a Secret that fits its schema, with the metadata that sops put into it. `lines`: where each key stands.
    Raises `SopsUnreadable`."""
    if (values := manifest["spec"].get("values")) is None:
        why, fix = "what sops encrypted here are no values", f"{SOPS_COMMAND} FILE, of a manifest with spec.values"
        raise SopsUnreadable(0, why, fix)
    leaves = [_Leaf(key, value, lines.get(key, 0)) for key, value in values.items()]
    document = _document(leaves, manifest[_METADATA])
    before, after = list[str](), list[str]()
    side = before
    for name, section in manifest.items():
        if name == "spec":
            side = after
        elif name != _METADATA:
            side += _plain_texts(section)
    return replace(document, path="spec:values:", plain_before=tuple(before), plain_after=tuple(after))


def _plain_texts(node: Any) -> Iterator[str]:
    """What sops puts into the MAC of what it did not encrypt, in its order."""
    if isinstance(node, Mapping):
        for each in node.values():
            yield from _plain_texts(each)
    elif isinstance(node, list):
        for each in node:
            yield from _plain_texts(each)
    else:
        yield str(node)


def _document(leaves: list[_Leaf], metadata: Mapping[str, Any]) -> SopsDocument:
    if _said(metadata.get("key_groups")) or _said(metadata.get("shamir_threshold")):
        raise SopsUnreadable(0, "its data key is split between key groups", "encrypt it with one group of age keys")
    if not (version := str(metadata.get("version") or "3")).startswith(f"{_MAJOR}.") and version != _MAJOR:
        shown = version if _VERSION.fullmatch(version) else "another version"
        why, fix = f"it is of sops {shown}; {_MAJOR}.x is known here", f"encrypt it with sops {_MAJOR}.x"
        raise SopsUnreadable(0, why, fix, "sops_version_unknown")
    return SopsDocument(
        tuple(_checked(leaves)),
        tuple(_age_keys(metadata)),
        _text(metadata, "lastmodified"),
        _text(metadata, "mac"),
        str(metadata.get("mac_only_encrypted", "")).lower() in ("true", "1"),
    )


_ENCRYPT = "encrypt it with: sops encrypt --age RECIPIENT; if a plain value was pushed, treat it as known and change it"


def _checked(leaves: list[_Leaf]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for leaf in leaves:
        if not _VARIABLE.fullmatch(leaf.key):
            why = "a key is not a variable's name"
            raise SopsUnreadable(leaf.line, why, "use A-Z, 0-9 and _", "name_invalid")
        if leaf.key in seen:
            raise SopsUnreadable(leaf.line, f"{leaf.key} stands there twice", "keep one of them", "duplicate_key")
        seen.add(leaf.key)
        if isinstance(leaf.value, dict | list | Table | Array):
            raise SopsUnreadable(leaf.line, f"{leaf.key} is not one value", "use one level of keys with values")
        if not isinstance(leaf.value, str) or (leaf.value and not _ENCRYPTED.fullmatch(leaf.value)):
            why = f"the value of {leaf.key} is not encrypted"
            raise SopsUnreadable(leaf.line, why, _ENCRYPT, "secret_not_encrypted")
        yield leaf.key, leaf.value
    if not seen - {PLACE_KEY}:
        raise SopsUnreadable(0, "there are no values in it", "a secret that is not needed goes with its manifest")
    if len(seen) > KEYS_MAX + 1:
        raise SopsUnreadable(0, f"it has {len(seen)} keys; {KEYS_MAX} are allowed", "use fewer", "secret_too_large")


def _age_keys(metadata: Mapping[str, Any]) -> Iterator[str]:
    given = metadata.get("age")
    entries = given if isinstance(given, list) else []
    others = [each for each in _OTHER_KEYS if _said(metadata.get(each))]
    if not entries and others:
        why = f"its data key is encrypted with {', '.join(others)} alone, and to no age recipient"
        raise SopsUnreadable(0, why, "add the project's recipient: sops rotate --in-place --add-age RECIPIENT FILE")
    if not 0 < len(entries) <= AGE_KEYS_MAX:
        why = f"its data key is encrypted to {len(entries)} age recipients; 1 to {AGE_KEYS_MAX} are allowed"
        raise SopsUnreadable(0, why, "encrypt it to the project's recipient: sops encrypt --age RECIPIENT")
    for entry in entries:
        armored = entry.get("enc") if isinstance(entry, dict) else None
        if not isinstance(armored, str) or len(armored) > 8192 or not _ARMORED.fullmatch(armored):
            raise SopsUnreadable(0, "an age entry of its metadata is damaged", _AGAIN)
        yield armored


_AGAIN = "encrypt it again with sops"


def _text(metadata: Mapping[str, Any], name: str) -> str:
    value = metadata.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 1024:
        raise SopsUnreadable(0, f"its metadata has no {name}", _AGAIN)
    return value


def _said(value: object) -> bool:
    return value not in (None, "", "0", 0, [], "null", "[]")


def _dotenv(text: str) -> tuple[list[_Leaf], dict[str, Any]]:
    leaves: list[_Leaf] = []
    metadata: dict[str, Any] = {}
    age: dict[int, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        key, separator, value = line.removesuffix("\r").partition("=")
        if not separator:
            raise SopsUnreadable(number, "a line is not KEY=VALUE", _AGAIN)
        if not key.startswith(f"{_METADATA}_"):
            leaves.append(_Leaf(key, value, number))
        elif match := _FLAT_AGE_KEY.fullmatch(key):
            age[int(match[1])] = value.replace("\\n", "\n")
        else:
            metadata[key.removeprefix(f"{_METADATA}_")] = value.replace("\\n", "\n")
    if age:
        metadata["age"] = [{"enc": age[place]} for place in sorted(age)]
    return leaves, metadata


def _json(text: str) -> tuple[list[_Leaf], dict[str, Any]]:
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise SopsUnreadable(0, "this is not JSON", _AGAIN) from None
    if not isinstance(pairs, _Pairs):
        raise SopsUnreadable(0, "this is no JSON object", _AGAIN)
    leaves = [_Leaf(key, _plain(value), _line_of(text, key)) for key, value in pairs if key != _METADATA]
    return leaves, _metadata(_plain(value) for key, value in pairs if key == _METADATA)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object in its order, with what it says twice."""


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(each) for key, each in value}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _line_of(text: str, key: str) -> int:
    return text.count("\n", 0, max(text.find(json.dumps(key)), 0)) + 1


def _yaml(text: str) -> tuple[list[_Leaf], dict[str, Any]]:
    documents, findings = read_documents(text.encode(), "")
    if findings:
        raise SopsUnreadable(findings[0].line, "this is not the YAML that sops writes", _AGAIN)
    if len(documents) != 1 or not isinstance(documents[0], Table):
        raise SopsUnreadable(0, "this is no YAML mapping", "use one document with one level of keys")
    leaves, found = [], []
    for entry in documents[0].entries:
        if entry.key == _METADATA:
            found.append(_value(entry.value))
        else:
            value = entry.value.text if isinstance(entry.value, Text) else entry.value
            leaves.append(_Leaf(entry.key, value, entry.key_mark.line))
    return leaves, _metadata(found)


def _value(node: Node) -> Any:
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Array):
        return [_value(each) for each in node.items]
    return {entry.key: _value(entry.value) for entry in node.entries}


def _metadata(found: Iterable[Any]) -> dict[str, Any]:
    sections = list(found)
    return sections[0] if len(sections) == 1 and isinstance(sections[0], dict) else {}
