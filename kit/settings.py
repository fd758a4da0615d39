"""Settings of a program: a flag, else TRUEUP_NAME, else a TOML file, else the default. Checked at start.

A program describes its settings as a frozen dataclass whose fields are made by `setting(...)`; its docstring becomes
the help text. A field `node_id` is the flag --node-id, the variable TRUEUP_NODE_ID and the TOML key node_id. The
field's type says how text is read: str, int, float, bool, Path, tuple[str, ...] (comma-separated), or X | None. `parse`
replaces that, for instance `parse=parse_bytes` so that an int field takes "2Gi".
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kit.errors import Refusal

T = TypeVar("T")
_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def setting(
    help_text: str,
    *,
    default: Any = dataclasses.MISSING,
    parse: Callable[[str], Any] | None = None,
    check: Callable[[Any], str] | None = None,
) -> Any:
    """`check` gets the value and returns what is wrong with it, or "" if it is good."""
    return dataclasses.field(default=default, metadata={"help": help_text, "parse": parse, "check": check})


def load(cls: type[T], *, argv: Sequence[str], environ: Mapping[str, str], prog: str) -> T:
    """The settings, or a `Refusal` with code "settings_invalid" that names every wrong one and where it came from.

    Like argparse, --help prints and leaves the program.
    """
    flags = vars(_parser(cls, prog).parse_args(argv))
    path = flags.pop("config") or environ.get("TRUEUP_CONFIG")
    table = _read_toml(Path(path)) if path else {}
    hints = typing.get_type_hints(cls)
    values, wrong = {}, _unknown_keys(cls, table, path)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # a class made by @dataclass
        where, raw = _find(field.name, flags, environ, table, path)
        try:
            values[field.name] = _value(field, hints[field.name], raw)
        except ValueError as error:
            wrong.append(f"{where}: {error}")
    if wrong:
        raise Refusal(f"start {prog}", "; ".join(wrong), fix=f"see {prog} --help", code="settings_invalid")
    return cls(**values)


def _parser(cls: type[Any], prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=cls.__doc__, epilog="Each setting may also be TRUEUP_NAME, or a key of the TOML file."
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings (or TRUEUP_CONFIG)")
    for field in dataclasses.fields(cls):
        has_default = field.default is not dataclasses.MISSING
        shown = f" (default: {field.default})" if has_default and field.default not in (None, "", ()) else ""
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            metavar="VALUE",
            help=f"{field.metadata['help']}{shown}".replace("%", "%%"),
        )
    return parser


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Refusal(f"read settings {path}", str(error), fix="mend the file", code="settings_invalid") from error


def _unknown_keys(cls: type[Any], table: Mapping[str, Any], path: str | None) -> list[str]:
    known = {field.name for field in dataclasses.fields(cls)}
    return [f"{path}: unknown key {key!r}" for key in sorted(set(table) - known)]


def _find(
    name: str, flags: Mapping[str, Any], environ: Mapping[str, str], table: Mapping[str, Any], path: str | None
) -> tuple[str, Any]:
    variable = f"TRUEUP_{name.upper()}"
    if flags[name] is not None:
        return f"--{name.replace('_', '-')}", flags[name]
    if variable in environ:
        return variable, environ[variable]
    if name in table:
        return f"{path}: {name}", table[name]
    return f"--{name.replace('_', '-')} (or {variable})", None


def _value(field: dataclasses.Field[Any], kind: Any, raw: Any) -> Any:
    if raw is None:
        if field.default is dataclasses.MISSING:
            raise ValueError("is required")
        value = field.default
    elif isinstance(raw, str):
        value = (field.metadata["parse"] or _reader(kind))(raw)
    else:
        value = tuple(raw) if isinstance(raw, list) else Path(raw) if kind is Path else raw
    complaint = field.metadata["check"](value) if field.metadata["check"] else ""
    if complaint:
        raise ValueError(complaint)
    return value


def _reader(kind: Any) -> Callable[[str], Any]:
    if isinstance(kind, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if typing.get_origin(kind) is tuple:
        return lambda text: tuple(part.strip() for part in text.split(",") if part.strip())
    readers: dict[Any, Callable[[str], Any]] = {bool: _parse_bool, int: int, float: parse_seconds, Path: Path}
    return readers.get(kind, str)


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
