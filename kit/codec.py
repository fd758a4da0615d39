"""Frozen dataclasses to JSON documents and back.

The wire (`kit.wire`) and the model (`reconciler.core.model`) are frozen dataclasses of str, int, float, bool, None,
tuples, string-keyed dicts and other such dataclasses. A reader ignores fields that it does not know, so that an older
program can read what a newer one wrote; a field that it needs and does not find is a `Refusal`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from kit.errors import Refusal

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """A document of dicts, lists and scalars; dataclasses become objects, tuples become arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def from_json(cls: type[T], document: Any, *, where: str = "") -> T:
    """An instance of the dataclass `cls`. `where` names the document in the error."""
    result: T = _decode(cls, document, where or cls.__name__)
    return result


def _decode(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _decode_dataclass(kind, value, where)
    return _decoder(get_origin(kind) or kind)(kind, value, where)


def _decode_dataclass(cls: type[Any], document: Any, where: str) -> Any:
    if not isinstance(document, Mapping):
        raise _unfit(where, "an object", document)
    given = {}
    for name, (kind, required) in _fields(cls).items():  # type: ignore[arg-type]  # a class is hashable
        if name in document:
            given[name] = _decode(kind, document[name], f"{where}.{name}")
        elif required:
            raise Refusal(f"read {where}", f"field {name!r} is missing", code="document_invalid")
    return cls(**given)


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[Any, bool]]:
    hints = get_type_hints(cls)
    missing = dataclasses.MISSING
    return {
        f.name: (hints[f.name], f.default is missing and f.default_factory is missing) for f in dataclasses.fields(cls)
    }


def _decode_tuple(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _unfit(where, "an array", value)
    item = get_args(kind)[0]
    return tuple(_decode(item, each, f"{where}[{index}]") for index, each in enumerate(value))


def _decode_dict(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _unfit(where, "an object", value)
    item = (get_args(kind) or (str, Any))[1]
    return {str(key): _decode(item, each, f"{where}.{key}") for key, each in value.items()}


def _decode_union(kind: Any, value: Any, where: str) -> Any:
    options = get_args(kind)
    if value is None and type(None) in options:
        return None
    return _decode(next(option for option in options if option is not type(None)), value, where)


def _decode_literal(kind: Any, value: Any, where: str) -> Any:
    if value not in get_args(kind):
        raise _unfit(where, f"one of {', '.join(map(str, get_args(kind)))}", value)
    return value


def _decode_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _unfit(where, kind.__name__, value)
    return value


def _decoder(kind: Any) -> Callable[[Any, Any, str], Any]:
    return _DECODERS.get(kind, _decode_scalar)


def _unfit(where: str, wanted: str, value: Any) -> Refusal:
    return Refusal(f"read {where}", f"expected {wanted}, found {type(value).__name__}", code="document_invalid")


_DECODERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    tuple: _decode_tuple,
    dict: _decode_dict,
    collections.abc.Mapping: _decode_dict,
    Union: _decode_union,
    types.UnionType: _decode_union,
    Literal: _decode_literal,
}
