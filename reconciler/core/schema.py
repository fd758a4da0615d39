"""From YAML nodes to a JSON document that the schema allows, or findings in plain words.

`reconciler.core.language` calls `check` once per resolved document, and with `partial` for what only adds to others.
The schema says what a plain scalar is: where it wants a number or a truth value, the JSON forms of those are read as
such, everywhere else a scalar is the text that is written. The schemas in schemas/manifest/ are plain JSON Schema
2020-12, so that an editor finds the same mistakes; the keywords `errorMessage`, `x-code` and `x-fix` beside a keyword
say it in our words.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from reconciler.core.findings import Finding, nearest
from reconciler.core.yaml_reader import Array, Entry, Mark, Node, Table, Text, key_name, says_nothing

SCHEMA_NAMES = ("common", "environment", "app", "route", "volume", "secret", "defaults", "overlay")
_ABOUT_THE_WHOLE = frozenset(("required", "oneOf", "minProperties"))
"""Keywords that say nothing about a part of a document."""
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,16})?([eE][+-]?[0-9]{1,2})?")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_PLAIN_PART = re.compile(
    r"|apiVersion|kind|metadata|name|app|env|spec|values|sops|dotenv|json|yaml|[A-Z_][A-Z0-9_]{0,127}"
)
_TAGGED_IMAGE = re.compile(r"[A-Za-z0-9._:/-]{1,200}")
_QUOTABLE = re.compile(r"[\x20-\x7e]{1,80}")


@dataclass(slots=True)
class Checked:
    """`marks`: JSON pointer -> where its value is; `key_marks`: where its key is."""

    document: Any
    marks: dict[str, Mark] = field(default_factory=dict)
    key_marks: dict[str, Mark] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def check(node: Node, schema: str, path: str, *, at: str = "", partial: bool = False) -> Checked:
    """`schema` is a file name, with a fragment for a part of it: "app.json", "app.json#/$defs/process". `at`: the
    pointer of the node in its document. The document is only meaningful without findings.

    `partial`: the node only adds to other documents. Then nothing is missing, a key without a value takes something
    away, and a text with a variable in it is judged where it is used.
    """
    checked = Checked(None)
    checked.document = _shape(node, {"$ref": schema}, at, "", checked)
    teller = _Teller(checked, path, at, values_are_secret=schema.startswith("secret.json"))
    for error in _validator(schema).iter_errors(checked.document):
        if not (partial and _is_open(error)):
            checked.findings.extend(teller.tell(error))
    return checked


def _is_open(error: ValidationError) -> bool:
    """Whether only the whole document can tell."""
    given, keyword = error.instance, error.validator
    is_variable = "variables" in error.absolute_path
    unsettled = given is None or (isinstance(given, str) and "${" in given)
    return keyword in _ABOUT_THE_WHOLE or (unsettled and not is_variable and "propertyNames" not in error.schema_path)


def pointer_join(pointer: str, *parts: str | int) -> str:
    """RFC 6901: ~ and / inside a part are escaped."""
    return pointer + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


@functools.cache
def load(name: str) -> dict[str, Any]:
    """The schema document of that file name. Packaged with the program."""
    text = resources.files("schemas").joinpath("manifest", name).read_text()
    document: dict[str, Any] = json.loads(text)
    return document


@functools.cache
def _validator(schema: str) -> Any:
    registry: Registry[Any] = Registry().with_resources(
        [(f"{name}.json", DRAFT202012.create_resource(_bare(f"{name}.json"))) for name in SCHEMA_NAMES]
    )
    strict = extend(Draft202012Validator, {"pattern": _pattern})
    return strict({"$ref": schema}, registry=registry)


def _bare(name: str) -> dict[str, Any]:
    """Without $schema, which would make the library go on with its own class, and its own idea of a pattern's end."""
    return {key: value for key, value in load(name).items() if key != "$schema"}


def _pattern(_: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """As in ECMA: a final $ does not match before a line break at the end."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError("pattern")


def _shape(node: Node, schema: Mapping[str, Any], pointer: str, base: str, into: Checked) -> Any:
    """The JSON value of a node. `base` is the file that a local reference of `schema` belongs to."""
    schema, base = _follow(schema, base)
    into.marks[pointer] = node.mark
    match node:
        case Text():
            return _scalar(node, schema.get("type"))
        case Array():
            items = schema.get("items", {})
            return [_shape(x, items, pointer_join(pointer, n), base, into) for n, x in enumerate(node.items)]
        case Table():
            return {entry.key: _field(entry.key, entry, schema, pointer, base, into) for entry in node.entries}


def _field(key: str, entry: Entry, schema: Mapping[str, Any], pointer: str, base: str, into: Checked) -> Any:
    below = pointer_join(pointer, key)
    into.key_marks[below] = entry.key_mark
    other = schema.get("additionalProperties")
    chosen = schema.get("properties", {}).get(key) or (other if isinstance(other, Mapping) else {})
    return _shape(entry.value, chosen, below, base, into)


def _follow(schema: Mapping[str, Any], base: str) -> tuple[Mapping[str, Any], str]:
    while "$ref" in schema:
        file, _, fragment = schema["$ref"].partition("#")
        base = file or base
        schema = load(base)
        for part in fragment.strip("/").split("/") if fragment else ():
            schema = schema[part]
    return schema, base


def _scalar(node: Text, wanted: str | list[str] | None) -> Any:
    kinds = [wanted] if isinstance(wanted, str) else wanted or []
    if not node.plain:
        return node.text
    if says_nothing(node.text):
        return None
    if "boolean" in kinds and node.text in ("true", "false"):
        return node.text == "true"
    if "integer" in kinds and _INTEGER.fullmatch(node.text):
        return int(node.text)
    if "number" in kinds and _NUMBER.fullmatch(node.text):
        return float(node.text)
    return node.text


_TYPE_NAMES = {
    "object": "a mapping (key: value)",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


class _Teller:
    """Says an error of the validator in words, at its place."""

    def __init__(self, checked: Checked, path: str, at: str, *, values_are_secret: bool) -> None:
        self._checked = checked
        self._path = path
        self._at = at
        self._secret = values_are_secret

    def tell(self, error: ValidationError) -> Iterator[Finding]:
        pointer = pointer_join(self._at, *error.absolute_path)
        match error.validator:
            case "additionalProperties":
                yield from self._unknown_fields(error, pointer)
            case "required":
                yield from self._missing_fields(error, pointer)
            case "type" | "enum" | "const" if error.instance is None:
                fix = "write a value" + (", or a text in quotes" if error.validator_value == "string" else "")
                fix += "; there is nothing inherited here that it could take away"
                yield self._finding(pointer, "value_missing", f"{self._name(pointer)} has no value", fix)
            case _ if error.absolute_schema_path and "propertyNames" in error.absolute_schema_path:
                yield self._bad_key(error, pointer)
            case _:
                yield self._in_words(error, pointer)

    def _unknown_fields(self, error: ValidationError, pointer: str) -> Iterator[Finding]:
        known = sorted(error.schema["properties"])
        for key in sorted(set(error.instance) - set(known)):
            near = nearest(key, known)
            fix = f"did you mean '{near}'?" if near else f"known here: {', '.join(known)}"
            message = f"{self._name(pointer)} has no field {self._key(key, known)}"
            yield self._finding(pointer_join(pointer, key), "unknown_field", message, fix, at_key=True)

    def _missing_fields(self, error: ValidationError, pointer: str) -> Iterator[Finding]:
        for key in error.validator_value:
            if key not in error.instance:
                yield self._finding(
                    pointer, "field_missing", f"{self._name(pointer)} needs the field '{key}'", "add it"
                )

    def _bad_key(self, error: ValidationError, pointer: str) -> Finding:
        below = pointer_join(pointer, error.instance)
        key = self._key(error.instance)
        message = f"the key {key} in {self._name(pointer)}: {_told(error, 'errorMessage')}"
        return self._finding(below, "name_invalid", message, "rename it", at_key=True)

    def _in_words(self, error: ValidationError, pointer: str) -> Finding:
        told = _told(error, "errorMessage") or _GENERIC.get(str(error.validator), _other)(error.validator_value)
        code = _told(error, "x-code") or _CODES.get(str(error.validator), "value_invalid")
        message = f"{self._name(pointer)}{self._value(error.instance)}: {told}"
        return self._finding(pointer, code, message, self._fix(error))

    def _fix(self, error: ValidationError) -> str:
        given = error.instance
        if told := _told(error, "x-fix"):
            is_tagged = isinstance(given, str) and _TAGGED_IMAGE.fullmatch(given)
            return told.replace("IMAGE:TAG", given) if is_tagged else told
        if error.validator == "enum" and not self._secret:
            near = nearest(str(given), map(str, error.validator_value))
            return f"did you mean '{near}'?" if near else ""
        if error.validator == "type" and isinstance(given, str):
            plain = _scalar(Text(given, True, Mark(0, 0)), error.validator_value)
            return "write it without quotes" if not isinstance(plain, str | None) else ""
        return ""

    def _key(self, key: str, known: Iterable[str] = ()) -> str:
        """A key for a message. In a Secret, what is neither a variable nor nearly a field may be a misplaced value."""
        may_show = not self._secret or _VARIABLE.fullmatch(key) or nearest(key, known)
        return key_name(key) if may_show else "(not shown)"

    def _masked(self, pointer: str) -> str:
        if not self._secret:
            return pointer
        parts = pointer.split("/")
        return "/".join(part if _PLAIN_PART.fullmatch(part) else "*" for part in parts)

    def _name(self, pointer: str) -> str:
        return self._masked(pointer).lstrip("/").replace("/", ".") or "the manifest"

    def _value(self, value: Any) -> str:
        """What stands there, when it is short, printable and no secret."""
        if self._secret or isinstance(value, Mapping | list):
            return ""
        if isinstance(value, str):
            return f" '{value}'" if _QUOTABLE.fullmatch(value) else ""
        return f" {value:g}" if isinstance(value, float) else f" {json.dumps(value)}"

    def _finding(self, pointer: str, code: str, message: str, fix: str, *, at_key: bool = False) -> Finding:
        marks = self._checked.key_marks if at_key else self._checked.marks
        return finding_at(marks.get(pointer, Mark(0, 0)), self._path, self._masked(pointer), code, message, fix)


def finding_at(mark: Mark, path: str, pointer: str, code: str, message: str, fix: str = "") -> Finding:
    """A finding where the value was written, which may be in another file than the document's own `path`."""
    via = f" ({mark.via})" if mark.via else ""
    return Finding(mark.path or path, mark.line, mark.column, pointer, code, message + via, fix)


def _told(error: ValidationError, keyword: str) -> str:
    """What the schema itself has to say about the keyword that failed."""
    said = error.schema.get(keyword, {}) if isinstance(error.schema, Mapping) else {}
    return str(said.get(error.validator, ""))


def _type_names(kinds: list[str]) -> str:
    return " or ".join(_TYPE_NAMES[kind] for kind in kinds)


def _other(wanted: Any) -> str:
    return "it does not fit the schema"


_CODES = {"type": "type_wrong", "enum": "not_one_of", "const": "not_one_of"}
_GENERIC: dict[str, Callable[[Any], str]] = {
    "type": lambda kinds: "wanted " + _type_names([kinds] if isinstance(kinds, str) else kinds),
    "enum": lambda words: "wanted one of " + ", ".join(map(str, words)),
    "const": lambda word: f"wanted '{word}'",
    "minimum": lambda bound: f"at least {bound}",
    "maximum": lambda bound: f"at most {bound}",
    "exclusiveMinimum": lambda bound: f"more than {bound}",
    "minProperties": lambda bound: f"at least {bound} entry",
    "minItems": lambda bound: f"at least {bound} item",
    "maxProperties": lambda bound: f"at most {bound} entries",
    "maxItems": lambda bound: f"at most {bound} items",
    "maxLength": lambda bound: f"at most {bound} characters",
    "uniqueItems": lambda _: "the same item stands here twice",
}
