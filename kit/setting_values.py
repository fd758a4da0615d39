"""One setting's value: from text, or from TOML, into the field's type. Used by `kit.settings` and `kit.setting_tables`.

Text is read by the field's own `parse`, else by its type; what TOML gives in a type of its own has to be of the
field's type. Anything else is a `ValueError` that says what was expected.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_WORDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number or a duration"}


def value_of(field: dataclasses.Field[Any], kind: Any, raw: Any) -> Any:
    """`raw`: None when it was not given."""
    if raw is None:
        if field.default is dataclasses.MISSING:
            raise ValueError("is required")
        value = field.default
    elif isinstance(raw, str):
        value = (field.metadata["parse"] or _reader(_plain(kind)))(raw)
    else:
        value = _typed(_plain(kind), raw)
    complaint = field.metadata["check"](value) if field.metadata["check"] else ""
    if complaint:
        raise ValueError(complaint)
    return value


def complaints_of(made: Any) -> list[tuple[str, str]]:
    """(setting, what is wrong), for what the settings of one object say only together."""
    return list(made.complaints()) if hasattr(made, "complaints") else []


def _plain(kind: Any) -> Any:
    """The type itself of `X | None`."""
    if isinstance(kind, types.UnionType):
        return next(option for option in typing.get_args(kind) if option is not type(None))
    return kind


def _reader(kind: Any) -> Callable[[str], Any]:
    if typing.get_origin(kind) is Mapping:
        return _table_of_texts
    if typing.get_origin(kind) is tuple:
        return lambda text: tuple(part.strip() for part in text.split(",") if part.strip())
    readers: dict[Any, Callable[[str], Any]] = {bool: _parse_bool, int: int, float: parse_seconds, Path: Path}
    return readers.get(kind, str)


def _typed(kind: Any, raw: Any) -> Any:
    if typing.get_origin(kind) is Mapping:
        return _table_of_texts(raw)
    if typing.get_origin(kind) is tuple:
        return _texts(raw)
    fits = type(raw) is kind or (kind is float and type(raw) is int)
    if not fits:
        raise ValueError(f"expected {_WORDS.get(kind, 'a text')}, found {raw!r}")
    return raw


def _texts(raw: Any) -> tuple[str, ...]:
    if isinstance(raw, list) and all(isinstance(each, str) for each in raw):
        return tuple(raw)
    raise ValueError(f"expected a list of texts, found {raw!r}")


def _table_of_texts(raw: Any) -> dict[str, tuple[str, ...]]:
    """{ name = "text" } or { name = ["one", "another"] }; a text alone is a list of one."""
    if isinstance(raw, dict):
        return {name: (each,) if isinstance(each, str) else _texts(each) for name, each in raw.items()}
    raise ValueError(f"expected {{ name = value }}, found {raw!r}")


def _parse_bool(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError(f"expected true or false, found {text!r}")
    return words[text.lower()]


def parse_bytes(text: str) -> int:
    """ "128Mi" -> 134217728. Units Ki, Mi, Gi, Ti, or none for bytes."""
    match = re.fullmatch(r"(\d+)([KMGT]i)?", text.strip())
    if not match:
        raise ValueError(f"expected a size such as 512Mi or 2Gi, found {text!r}")
    return int(match[1]) * _UNITS[match[2] or ""]


def parse_seconds(text: str) -> float:
    """ "500ms" -> 0.5; "2m" -> 120; a bare number is seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text.strip())
    if not match:
        raise ValueError(f"expected a duration such as 500ms, 10s or 2m, found {text!r}")
    return float(match[1]) * _DURATIONS[match[2] or "s"]
