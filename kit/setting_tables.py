"""Settings that come as tables of the TOML file, [[sources]] for one: each becomes one object. Used by `kit.settings`.

The class of such a table is made of `setting(...)` fields like a program's own, and of `table(...)` fields for tables
inside of it. It may have a method `complaints()` that returns (key, what is wrong) for what fields say only together.
Every mistake is told as FILE:LINE: [[name]] "its name": key: what is wrong.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kit.setting_values import complaints_of, value_of

_HEADER = re.compile(r"\s*\[(\[?)\s*([A-Za-z0-9_.-]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


def table(cls: type[Any]) -> Any:
    """A field of a table's class: one table more, [NAME.FIELD], an object of `cls`. Without it: all of its defaults."""
    return dataclasses.field(default_factory=cls, metadata={"table": cls})


def tables(help_text: str, cls: type[Any]) -> Any:
    """A field of a program's settings: a tuple of `cls`, one for each [[FIELD]]; only in the TOML file."""
    return dataclasses.field(default=(), metadata={"help": help_text, "tables": cls})


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """`values`: what could be made; only good when nothing is `wrong`."""

    values: tuple[Any, ...]
    wrong: tuple[str, ...]


def read_tables(cls: type[Any], name: str, raw: Any, text: str, path: str) -> Read:
    """`raw`: what tomllib made of all [[name]]. `text`: the file itself, for the lines."""
    if not isinstance(raw, list) or not all(isinstance(each, dict) for each in raw):
        return Read((), (f"{path}: {name}: expected tables [[{name}]]",))
    values, wrong = [], []
    lines = list(_lines(text, name))
    for index, each in enumerate(raw):
        where = lines[index] if index < len(lines) else {}
        called = f'"{each["name"]}"' if isinstance(each.get("name"), str) else f"number {index + 1}"
        made, complaints = _read_table(cls, each)
        values.append(made)
        for key, why in complaints:
            line = where.get(key) or where.get("")
            place = f"{path}:{line}" if line else path
            wrong.append(f"{place}: [[{name}]] {called}: {key}{': ' if key else ''}{why}")
    return Read(tuple(values), tuple(wrong))


def _read_table(cls: type[Any], given: Mapping[str, Any], prefix: str = "") -> tuple[Any, list[tuple[str, str]]]:
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    wrong = [(prefix + key, _unknown(key, fields)) for key in sorted(set(given) - set(fields))]
    for name, field in fields.items():
        inner = field.metadata.get("table")
        try:
            if inner is None:
                values[name] = value_of(field, hints[name], given.get(name))
            elif isinstance(given.get(name, {}), dict):
                values[name], more = _read_table(inner, given.get(name, {}), f"{prefix}{name}.")
                wrong += more
            else:
                wrong.append((prefix + name, "expected a table"))
        except ValueError as error:
            wrong.append((prefix + name, str(error)))
    if wrong:
        return None, wrong
    made = cls(**values)
    return made, [(prefix + key, why) for key, why in complaints_of(made)]


def _unknown(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"there is no such setting{f'; did you mean {near[0]}?' if near else ''}"


def _lines(text: str, name: str) -> Iterator[dict[str, int]]:
    """For each [[name]]: key -> line, "" -> the line of its header. A key of [name.inner] is "inner.key"."""
    current: dict[str, int] | None = None
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            if header[2] == name and header[1]:
                if current is not None:
                    yield current
                current, prefix = {"": number}, ""
            else:
                inside = header[2].startswith(f"{name}.")
                prefix = f"{header[2].removeprefix(f'{name}.')}." if inside else "\0"
        elif current is not None and (key := _KEY.match(line)):
            current.setdefault(prefix + key[1], number)
    if current is not None:
        yield current
