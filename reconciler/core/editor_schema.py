"""The JSON Schema for editors: of a manifest as it is written, before defaults, overlays and variables are in it.

`trueup schema` prints it, and schemas/manifest/trueup.v1.json is a copy for repositories that have no trueup at hand.
It is made from the schemas that resolved manifests are checked with: below `spec` and `patch` nothing is required, a
value may be missing, and a text with a variable in it may stand for anything. One document without references to
others, so that an editor needs no more than one file or URL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.core.language.documents import KINDS
from reconciler.core.language.overlays import PATCHABLE
from reconciler.core.schema import SCHEMA_NAMES, load

FILE_NAME = "trueup.v1.json"
Schema = dict[str, Any]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DROPPED = frozenset(("$schema", "$id", "errorMessage", "x-code", "x-fix"))
"""Ours, and of no use to an editor, or only right at the top of a document."""
_OF_THE_WHOLE = frozenset(("required", "oneOf", "minProperties"))
_SCALARS = frozenset(("string", "integer", "number", "boolean"))
_SUBSCHEMAS = ("items", "additionalProperties", "propertyNames", "not", "if", "then", "else")
_SUBSCHEMA_MAPS = ("properties", "$defs")
_OPEN = "written:"
"""The prefix of the copies in which a variable may stand for a value."""


def editor_schema(kind: str = "") -> Schema:
    """For manifests of one kind ("App"), or of any."""
    kinds = [kind] if kind else list(KINDS)
    cases = [
        {"if": {"properties": {"kind": {"const": each}}, "required": ["kind"]}, "then": _ref(_OPEN + KINDS[each])}
        for each in kinds
    ]
    return {
        "$schema": _DIALECT,
        "$id": FILE_NAME if not kind else f"{KINDS[kind]}.v1.json",
        "title": f"A trueup manifest{f' of kind {kind}' if kind else ''}",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"apiVersion": {"const": "trueup/v1"}, "kind": {"enum": kinds}},
        "allOf": cases,
        "$defs": _definitions(),
    }


def _definitions() -> Schema:
    strict = {name: _copied(load(f"{name}.json"), name, _strict) for name in SCHEMA_NAMES}
    written = {name: _copied(load(f"{name}.json"), name, _written) for name in SCHEMA_NAMES}
    written["secret"] = strict["secret"]  # nothing of it is inherited: it is sealed for its place
    for name in KINDS.values():
        if name != "secret":
            written[name] = _top(strict[name], written[name], strict["common"])
    written["overlay"]["allOf"] = [_patch_of(kind) for kind in PATCHABLE]
    return {**strict, **{_OPEN + name: document for name, document in written.items()}}


def _top(strict: Schema, written: Schema, common: Schema) -> Schema:
    """Down to `spec`, a document is what its schema says, save that a folder may supply env and app."""
    properties = {**strict["properties"]}
    if "spec" in properties:
        properties["spec"] = written["properties"]["spec"]
    for name in ("metadata", "target"):
        if name in properties:
            properties[name] = _place(properties[name], common)
    return {**written, **strict, "$defs": written.get("$defs", {}), "properties": properties, "required": _head(strict)}


def _head(strict: Schema) -> list[str]:
    return [each for each in strict["required"] if each != "spec"]


def _place(place: Schema, common: Schema) -> Schema:
    """A metadata or target in which only what no folder can supply is required."""
    if "$ref" in place:
        place = common["$defs"][place["$ref"].rpartition("/")[2]]
    required = [each for each in place.get("required", ()) if each not in ("env", "app")]
    return {**{key: value for key, value in place.items() if key != "else"}, "required": required}


def _patch_of(kind: str) -> Schema:
    title = next(each for each, word in KINDS.items() if word == kind)
    target = {"properties": {"kind": {"const": title}}, "required": ["kind"]}
    return {
        "if": {"properties": {"target": target}, "required": ["target"]},
        "then": {"properties": {"patch": _ref(_OPEN + kind, "/properties/spec")}},
    }


def _ref(name: str, fragment: str = "") -> Schema:
    return {"$ref": f"#/$defs/{name}{fragment}"}


def _copied(schema: Any, name: str, turn: Callable[[Schema, str], Schema]) -> Any:
    """With its references led to the copies in this document, and each part turned."""
    if not isinstance(schema, Mapping):
        return schema
    copy = {key: value for key, value in schema.items() if key not in _DROPPED}
    for key in _SUBSCHEMAS:
        if key in copy:
            copy[key] = _copied(copy[key], name, _strict if key in ("propertyNames", "if", "not") else turn)
    for key in _SUBSCHEMA_MAPS:
        if key in copy:
            copy[key] = {
                each: _copied(value, name, _strict if each == "variables" else turn)
                for each, value in copy[key].items()
            }
    return turn(copy, name)


def _strict(schema: Schema, name: str) -> Schema:
    return {**schema, **_led(schema, name, "")} if "$ref" in schema else schema


def _written(schema: Schema, name: str) -> Schema:
    schema = {key: value for key, value in schema.items() if key not in _OF_THE_WHOLE}
    if "$ref" in schema:
        return {**schema, **_led(schema, name, _OPEN)}
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "enum" in schema or _SCALARS & set(kinds):
        told: Schema = {key: schema.pop(key) for key in ("description", "default", "title") if key in schema}
        any_text = kinds == ["string"] and "pattern" not in schema
        others = ["null", "number", "boolean"] if any_text else ["null"]  # 8443 is a text where a text is wanted
        return {**told, "anyOf": [schema, {"type": "string", "pattern": r"\$\{"}, {"type": others}]}
    if kinds:
        schema["type"] = [*kinds, "null"]
    return schema


def _led(schema: Schema, name: str, prefix: str) -> Schema:
    file, _, fragment = schema["$ref"].partition("#")
    target = file.removesuffix(".json") or name
    return {"$ref": f"#/$defs/{prefix}{target}{fragment}"}
