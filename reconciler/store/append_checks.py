"""What a batch has to be before it may touch the database. Pure.

Called by `PostgresEventLog.append`. A batch that Postgres could not store (a NUL, half a surrogate pair, NaN, too
large) is refused whole, with the command and the place named; an event that does not fit its schema is a bug of the
decider.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kit.errors import Refusal
from reconciler.core.commands import Append
from reconciler.core.events import NewEvent
from reconciler.store.limits import (
    APPEND_COMMANDS_MAX,
    APPEND_EVENTS_MAX,
    BATCH_BYTES_MAX,
    KEY_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
)

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def check_batch(batch: Sequence[Append], check_event: Callable[[NewEvent], None]) -> list[str]:
    """The JSON text of each event's payload, in order. Raises `Refusal` or `Bug`."""
    _check_count(len(batch), APPEND_COMMANDS_MAX, "commands")
    _check_count(sum(len(append.events) for append in batch), APPEND_EVENTS_MAX, "events")
    texts = [text for append in batch for text in _check_command(append, check_event)]
    _check_size("the batch", sum(len(text) for text in texts), BATCH_BYTES_MAX)
    return texts


def _check_command(append: Append, check_event: Callable[[NewEvent], None]) -> list[str]:
    if not _is_surely_storable(append):
        _check_names(f"command {append.command_id!r}", append)
    texts = []
    for event in append.events:
        texts.append(_payload_text(append, event))
        check_event(event)
    return texts


def _is_surely_storable(append: Append) -> bool:
    """The quick look, which nearly every command passes: all of its names at once."""
    keys = [append.command_id, append.body_hash]
    for event in append.events:
        keys += (event.aggregate_type, event.aggregate_id, event.event_type)
    for key in append.expected:
        keys += key
    for claim in (*append.free, *append.take):
        keys += (claim.kind, claim.key, claim.owner)
    if "" in keys:
        return False
    cause = append.cause
    keys += (cause.actor_id, cause.org_id, cause.source_id, cause.commit, cause.path, cause.correlation_id)
    joined = "".join(keys)
    return max(map(len, keys)) <= KEY_BYTES_MAX and joined.isascii() and "\x00" not in joined


def _check_names(where: str, append: Append) -> None:
    for name, text in _indexed(append):
        _check_text(where, name, text)
        if not text or len(text.encode()) > KEY_BYTES_MAX:
            raise _refusal(where, f"{name} is empty or longer than {KEY_BYTES_MAX} bytes", "key_invalid")
    for name in ("actor_id", "org_id", "source_id", "commit", "path", "correlation_id"):
        _check_text(where, f"cause.{name}", getattr(append.cause, name))


def _indexed(append: Append) -> Iterator[tuple[str, str]]:
    yield "command_id", append.command_id
    yield "body_hash", append.body_hash
    for event in append.events:
        yield "aggregate_type", event.aggregate_type
        yield "aggregate_id", event.aggregate_id
        yield "event_type", event.event_type
    for aggregate_type, aggregate_id in append.expected:
        yield "expected aggregate_type", aggregate_type
        yield "expected aggregate_id", aggregate_id
    for claim in (*append.free, *append.take):
        yield "claim kind", claim.kind
        yield "claim key", claim.key
        yield "claim owner", claim.owner


def _payload_text(append: Append, event: NewEvent) -> str:
    try:
        text = _ENCODER.encode(event.payload)
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise _refusal(_place(append, event), "its payload holds half a surrogate pair", "text_invalid") from error
    except (TypeError, ValueError, RecursionError) as error:
        why = f"its payload is not a JSON document: {error}"
        raise _refusal(_place(append, event), why, "payload_invalid") from error
    if size > PAYLOAD_BYTES_MAX:
        _check_size(_place(append, event), size, PAYLOAD_BYTES_MAX)
    # json.dumps writes a NUL as \u0000; the cheap search comes first, the exact one only when it hits.
    if "\\u0000" in text and _holds_nul(event.payload):
        why = "its payload holds a NUL character, which Postgres cannot store"
        raise _refusal(_place(append, event), why, "text_invalid")
    return text


def _place(append: Append, event: NewEvent) -> str:
    return f"command {append.command_id!r}, event {event.event_type} of {event.aggregate_id}"


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, Mapping):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(_holds_nul(item) for item in value)
    return False


def _check_text(where: str, name: str, text: str) -> None:
    if "\x00" in text:
        raise _refusal(where, f"{name} holds a NUL character, which Postgres cannot store", "text_invalid")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _refusal(where, f"{name} holds half a surrogate pair", "text_invalid") from error


def _check_size(where: str, size: int, size_max: int) -> None:
    if size > size_max:
        raise _refusal(where, f"{size} bytes are more than {size_max}", "payload_too_large")


def _check_count(count: int, count_max: int, what: str) -> None:
    if count > count_max:
        raise _refusal("the batch", f"{count} {what} are more than {count_max}", "batch_too_large")


def _refusal(where: str, why: str, code: str) -> Refusal:
    return Refusal(f"append {where}", why, fix="change what the command says; nothing was appended", code=code)
