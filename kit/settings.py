"""Settings of a program: a flag, else TRUEUP_NAME, else a TOML file, else the default. Checked at start.

A program describes its settings as a frozen dataclass whose fields are made by `setting(...)`; its docstring becomes
the help text. A field `node_id` is the flag --node-id, the variable TRUEUP_NODE_ID and the TOML key node_id. The
field's type says how text is read: str, int, float, bool, Path, tuple[str, ...] (comma-separated), or X | None. `parse`
replaces that, for instance `parse=parse_bytes` so that an int field takes "2Gi". A field made by `tables(...)` is one
object per [[FIELD]] of the TOML file (`kit.setting_tables`). A class may have a method `complaints()` that returns
(setting, what is wrong) for what settings say only together.
"""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kit.errors import Refusal
from kit.setting_tables import read_tables, tables
from kit.setting_values import complaints_of, parse_bytes, parse_seconds, value_of

__all__ = ["load", "parse_bytes", "parse_seconds", "setting", "tables"]

T = TypeVar("T")


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
    text = _read_text(Path(path)) if path else ""
    table = _parse_toml(path, text) if path else {}
    hints = typing.get_type_hints(cls)
    values, wrong = {}, _unknown_keys(cls, table, path)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # a class made by @dataclass
        if inner := field.metadata.get("tables"):
            read = read_tables(inner, field.name, table.get(field.name, []), text, str(path))
            values[field.name] = read.values
            wrong += read.wrong
            continue
        where, raw = _find(field.name, flags, environ, table, path)
        try:
            values[field.name] = value_of(field, hints[field.name], raw)
        except ValueError as error:
            wrong.append(f"{where}: {error}")
    if not wrong:
        made = cls(**values)
        wrong += [f"{name}: {why}" for name, why in complaints_of(made)]
    if wrong:
        raise Refusal(f"start {prog}", "; ".join(wrong), fix=f"see {prog} --help", code="settings_invalid")
    return made


def _parser(cls: type[Any], prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=cls.__doc__, epilog="Each setting may also be TRUEUP_NAME, or a key of the TOML file."
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings (or TRUEUP_CONFIG)")
    for field in dataclasses.fields(cls):
        if "tables" in field.metadata:
            continue
        has_default = field.default is not dataclasses.MISSING
        shown = f" (default: {field.default})" if has_default and field.default not in (None, "", ()) else ""
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            metavar="VALUE",
            help=f"{field.metadata['help']}{shown}".replace("%", "%%"),
        )
    return parser


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"read settings {path}", str(error), fix="mend the file", code="settings_invalid") from error


def _parse_toml(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
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
