"""Does an event's payload fit its schema? Pure; the schema documents are arguments.

The store loads schemas/events/ and asks before each append. The general validators are too slow to stand in the way of
ten thousand events a second, so a schema is compiled once into nested functions. Only the words of JSON Schema 2020-12
that the schemas use are known; any other word is a Bug when the schemas are loaded, never silently passed over. A test
holds the answers against the reference validator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kit.errors import Bug
from reconciler.core.events import NewEvent

Check = Callable[[Any, str], str]
"""(value, JSON pointer) -> "" or what is wrong with it."""

_ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "title", "description"})


class EventSchemas:
    """`documents`: (event_type, event_version) -> JSON Schema of the payload."""

    def __init__(self, documents: Mapping[tuple[str, int], Any]) -> None:
        self._checks = {name: compile_schema(document) for name, document in documents.items()}

    def __contains__(self, name: tuple[str, int]) -> bool:
        return name in self._checks

    def check(self, event: NewEvent) -> None:
        """Raises a Bug that names the place in the payload."""
        check = self._checks.get((event.event_type, event.event_version))
        wrong = "there is no schema for it" if check is None else check(event.payload, "")
        if not wrong and not event.event_type.startswith(f"{event.aggregate_type}."):
            wrong = f"its aggregate_type is {event.aggregate_type}"
        if wrong:
            raise Bug(
                f"append event {event.event_type} version {event.event_version} of {event.aggregate_id}",
                wrong,
                fix="make the decider write what schemas/events says, or add a new version of the event",
                code="event_invalid",
            )


def compile_schema(document: Mapping[str, Any]) -> Check:
    return _compile(document, document.get("$defs", {}), {})


def _compile(schema: Any, definitions: Mapping[str, Any], made: dict[str, Check]) -> Check:
    if schema is True:
        return lambda value, where: ""
    if not isinstance(schema, Mapping):
        raise Bug("compile a schema", f"{schema!r} is not a schema", code="schema_invalid")
    checks = [
        _word(word, argument, schema, definitions, made)
        for word, argument in schema.items()
        if word not in _ANNOTATIONS and word != "additionalProperties"
    ]
    if "additionalProperties" in schema:
        checks.append(_additional(schema, definitions, made))
    return _all(checks)


def _all(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def check(value: Any, where: str) -> str:
        for each in checks:
            if wrong := each(value, where):
                return wrong
        return ""

    return check


def _word(
    word: str, argument: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], made: dict[str, Check]
) -> Check:
    match word:
        case "$ref":
            return _reference(argument, definitions, made)
        case "properties":
            return _properties({k: _compile(v, definitions, made) for k, v in argument.items()})
        case "items":
            return _items(_compile(argument, definitions, made))
        case _ if word in _WORDS:
            return _WORDS[word](argument)
        case _:
            raise Bug("compile a schema", f"the word {word!r} is not known here", code="schema_invalid")


def _reference(reference: str, definitions: Mapping[str, Any], made: dict[str, Check]) -> Check:
    name = reference.removeprefix("#/$defs/")
    if name not in definitions:
        raise Bug("compile a schema", f"{reference} leads nowhere", code="schema_invalid")
    if name not in made:
        made[name] = lambda value, where: made[name](value, where)  # for a definition that refers to itself
        made[name] = _compile(definitions[name], definitions, made)
    return made[name]


_SURELY: Mapping[str, frozenset[type]] = {
    "object": frozenset({dict}),
    "array": frozenset({list, tuple}),
    "string": frozenset({str}),
    "boolean": frozenset({bool}),
    "null": frozenset({type(None)}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
}
"""Nearly every value is of one of these, and that is quickly seen; what else fits, _TYPES knows."""

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list | tuple),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: (isinstance(value, int) and not isinstance(value, bool)) or _is_whole(value),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def _is_object(value: Any) -> bool:
    return type(value) is dict or isinstance(value, Mapping)


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _type(wanted: str | list[str]) -> Check:
    names = [wanted] if isinstance(wanted, str) else wanted
    surely = frozenset[type]().union(*(_SURELY[name] for name in names))
    tests = [_TYPES[name] for name in names]
    message = f"is not of type {' or '.join(names)}"

    def check(value: Any, where: str) -> str:
        if type(value) in surely or any(test(value) for test in tests):
            return ""
        return f"{where or '/'} {message}"

    return check


def _enum(allowed: list[str]) -> Check:
    """Words only: Python's 1 == True is not JSON's."""
    assert all(isinstance(each, str) for each in allowed), allowed
    words = frozenset(allowed)

    def check(value: Any, where: str) -> str:
        fits = isinstance(value, str) and value in words
        return "" if fits else f"{where or '/'} is {value!r}, not one of {', '.join(allowed)}"

    return check


def _pattern(pattern: str) -> Check:
    search = re.compile(pattern).search
    return lambda value, where: (
        f"{where} does not match {pattern}" if isinstance(value, str) and search(value) is None else ""
    )


def _minimum(minimum: float) -> Check:
    number = _TYPES["number"]
    return lambda value, where: f"{where} is below {minimum}" if number(value) and value < minimum else ""


def _min_length(length: int) -> Check:
    return lambda value, where: f"{where} is too short" if isinstance(value, str) and len(value) < length else ""


def _required(names: list[str]) -> Check:
    def check(value: Any, where: str) -> str:
        if _is_object(value):
            for name in names:
                if name not in value:
                    return f"{where}/{name} is missing"
        return ""

    return check


def _properties(checks: Mapping[str, Check]) -> Check:
    pairs = tuple(checks.items())

    def check(value: Any, where: str) -> str:
        """A pointer is made for what is wrong only."""
        if _is_object(value):
            for name, each in pairs:
                if name in value and each(value[name], ""):
                    return each(value[name], f"{where}/{name}")
        return ""

    return check


def _additional(schema: Mapping[str, Any], definitions: Mapping[str, Any], made: dict[str, Check]) -> Check:
    known = frozenset(schema.get("properties", {}))
    rest = schema["additionalProperties"]
    allowed = None if rest is False else _compile(rest, definitions, made)

    def check(value: Any, where: str) -> str:
        if not _is_object(value) or (type(value) is dict and value.keys() <= known):
            return ""
        for name in value:
            if name in known:
                continue
            wrong = f"{where}/{name} is not known" if allowed is None else allowed(value[name], f"{where}/{name}")
            if wrong:
                return wrong
        return ""

    return check


def _items(each: Check) -> Check:
    def check(value: Any, where: str) -> str:
        if isinstance(value, list | tuple):
            for index, item in enumerate(value):
                if wrong := each(item, f"{where}/{index}"):
                    return wrong
        return ""

    return check


_WORDS: Mapping[str, Callable[[Any], Check]] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "minimum": _minimum,
    "minLength": _min_length,
    "required": _required,
}
