"""Signed heads of the log in a file that the database's host cannot write: the proof against a rewritten or cut log.

Called by `trueup log`. The file holds one JSON document a line, oldest first: log_id, epoch, event_id, hash (hex),
exported_at, previous (SHA-256 of the line before, "" for the first) and an Ed25519 signature (hex) over the canonical
form of the others. So no line can be changed, left out in the middle, or made without the key.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from kit.canonical import canonical_json
from kit.errors import Refusal
from reconciler.store.pool import translated
from reconciler.store.verify import ChainHead

if TYPE_CHECKING:
    from reconciler.store.pool import Connection

# The stored hashes at the given events.
HASHES = "SELECT event_id, hash FROM events WHERE event_id = ANY($1::bigint[])"

# Which event began each epoch: what lies at or after it in an older epoch was lost when the backup was restored.
RESTORES = "SELECT event_id, (payload->>'epoch')::bigint FROM events WHERE event_type = 'log.restored'"


@dataclass(frozen=True, slots=True)
class ExportedHead:
    head: ChainHead
    line: bytes


def private_key(path: Path) -> Ed25519PrivateKey:
    key = _load(path, lambda content: load_pem_private_key(content, None))
    if not isinstance(key, Ed25519PrivateKey):
        raise _key_refused(path, "it is not an Ed25519 private key")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """From the public key's file, or the private one's."""
    content = path.read_bytes() if path.is_file() else b""
    if b"PRIVATE" in content:
        return private_key(path).public_key()
    key = _load(path, load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise _key_refused(path, "it is not an Ed25519 key")
    return key


def export_head(path: Path, key: Ed25519PrivateKey, head: ChainHead, at: str) -> None:
    """Adds one line, on disk before this returns. A file that does not hold is refused, not gone on with."""
    earlier = read_heads(path, key.public_key()) if path.exists() else []
    document = {
        "log_id": head.log_id,
        "epoch": head.epoch,
        "event_id": head.event_id,
        "hash": head.hash.hex(),
        "exported_at": at,
        "previous": hashlib.sha256(earlier[-1].line).hexdigest() if earlier else "",
    }
    document["signature"] = key.sign(canonical_json(document)).hex()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with os.fdopen(descriptor, "ab") as handle:
        handle.write(canonical_json(document) + b"\n")
        handle.flush()
        os.fsync(handle.fileno())


def read_heads(path: Path, key: Ed25519PublicKey) -> list[ExportedHead]:
    """Raises a `Refusal` that names the line that is not signed, or does not follow the one before it."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Refusal(
            f"read the heads in {path}", str(error), fix="name the exported file", code="not_found"
        ) from error
    heads: list[ExportedHead] = []
    for number, line in enumerate(lines, start=1):
        previous = hashlib.sha256(heads[-1].line).hexdigest() if heads else ""
        try:
            heads.append(_read_head(line, previous, key))
        except (ValueError, KeyError, TypeError, InvalidSignature) as error:
            why = "its signature does not hold" if isinstance(error, InvalidSignature) else str(error)
            fix = "find out who changed the file; use a copy from elsewhere"
            raise Refusal(f"read the head at {path}:{number}", why, fix=fix, code="head_invalid") from error
    return heads


async def check_heads(connection: Connection, heads: Sequence[ExportedHead], now: ChainHead) -> tuple[int, str]:
    """(0, "") when the log still holds everything that was exported; else the first event that differs, and why."""
    with translated("compare the exported heads with the log"):
        begun = {epoch: event_id for event_id, epoch in await connection.fetch(RESTORES)}
        wanted = [exported.head.event_id for exported in heads]
        stored = dict(await connection.fetch(HASHES, wanted))
    for exported in heads:
        head = exported.head
        lost_from = min((event_id for epoch, event_id in begun.items() if epoch > head.epoch), default=None)
        if head.event_id == 0 or (lost_from is not None and head.event_id >= lost_from):
            continue
        if head.epoch > now.epoch or (head.epoch == now.epoch and head.log_id != now.log_id):
            return 1, f"the heads are of log {head.log_id}, this is {now.log_id}"
        if head.event_id > now.event_id:
            return now.event_id + 1, f"the log ended at event {head.event_id} when its head was exported"
        if stored.get(head.event_id) != head.hash:
            return head.event_id, f"event {head.event_id} had another hash when the head was exported"
    return 0, ""


def _read_head(line: bytes, previous: str, key: Ed25519PublicKey) -> ExportedHead:
    document: dict[str, Any] = json.loads(line)
    signature = bytes.fromhex(document.pop("signature"))
    key.verify(signature, canonical_json(document))
    if document["previous"] != previous:
        raise ValueError("it does not follow the line before it")
    head = ChainHead(document["log_id"], document["epoch"], document["event_id"], bytes.fromhex(document["hash"]))
    return ExportedHead(head, line)


def _load(path: Path, load: Any) -> Any:
    try:
        return load(path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise _key_refused(path, str(error)) from error


def _key_refused(path: Path, why: str) -> Refusal:
    fix = "make one: openssl genpkey -algorithm ed25519 -out head.key"
    return Refusal(f"read the key {path}", why, fix=fix, code="key_invalid")
