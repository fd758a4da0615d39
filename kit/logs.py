"""Structured logs on standard error: one JSON object a line, or readable lines on a terminal.

`get("agent").info("vm started", instance_id=..., pid=...)`. Fields whose name says that they hold something secret are
blanked, and what looks like a secret anywhere in a line is too (`kit.redaction`), whatever the caller does.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from kit.redaction import redacted, redacted_field

Format = Literal["auto", "json", "text"]
VALUE_CHARS_MAX = 4096
TRACEBACK_CHARS_MAX = 64 * 1024
_bound: ContextVar[Mapping[str, Any]] = ContextVar("fields of every line", default=MappingProxyType({}))


class Log:
    """A component's log. Fields are keyword arguments and must be JSON-able or have a useful str()."""

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(f"trueup.{component}")

    def debug(self, message: str, **fields: Any) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, *, exc: BaseException | None = None, **fields: Any) -> None:
        self._write(logging.ERROR, message, fields, exc)

    def _write(self, level: int, message: str, fields: dict[str, Any], exc: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            info = (type(exc), exc, exc.__traceback__) if exc else None
            self._logger.log(level, message, extra={"fields": _clean({**_bound.get(), **fields})}, exc_info=info)


def bind(**fields: Any) -> None:
    """Fields of every line that this task writes from now on, and those that it starts."""
    _bound.set({**_bound.get(), **fields})


def get(component: str) -> Log:
    return Log(component)


def setup(*, level: str = "info", form: Format = "auto") -> None:
    """Called once by each program's main."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TextFormatter() if text else _JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("trueup").setLevel(level.upper())


def _clean(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: redacted_field(key, _bounded(value)) for key, value in fields.items()}


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("trueup."),
            "msg": redacted(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            document["traceback"] = _traceback(self, record)
        return json.dumps({key: _bounded(value) for key, value in document.items()}, default=str, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={_bounded(value)}" for key, value in getattr(record, "fields", {}).items())
        component = record.name.removeprefix("trueup.")
        head = f"{_timestamp(record)[11:23]} {record.levelname:<7} {component:<12}"
        line = f"{head} {redacted(record.getMessage())}  {fields}".rstrip()
        return f"{line}\n{_traceback(self, record)}" if record.exc_info else line


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    assert record.exc_info
    return redacted(formatter.formatException(record.exc_info)[-TRACEBACK_CHARS_MAX:])


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bounded(value: Any) -> Any:
    text = value if isinstance(value, str) else None
    return text[:VALUE_CHARS_MAX] + "..." if text and len(text) > VALUE_CHARS_MAX else value
