"""Signed heads of the log, at a place that the database's host cannot rewrite: they show a rewritten or cut log.

Called by `trueup log` and by the exporter of a controller (`head_exporter`). A head is one JSON document: log_id,
epoch, event_id, hash (hex), exported_at, previous (SHA-256 of the head before, "" for the first) and an Ed25519
signature (hex) over the canonical form of the others. So none can be changed, left out in the middle, or made without
the key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from kit.canonical import canonical_json
from kit.errors import Refusal, Transient
from reconciler.store.head_files import Line, heads_at, whole
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
    line: Line


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


def export_head(path: Path, key: Ed25519PrivateKey, head: ChainHead, at: str, *, begin: bool = True) -> None:
    """Adds one, on disk before this returns, after the newest one, whose signature has to hold. `begin`: it may be the
    first."""
    with _reached(path):
        files = heads_at(path)
        newest = files.newest()
    if newest is None and not begin:
        raise nothing_there(path)
    if newest is not None:
        _read(newest, key.public_key())
    document = {
        "log_id": head.log_id,
        "epoch": head.epoch,
        "event_id": head.event_id,
        "hash": head.hash.hex(),
        "exported_at": at,
        "previous": _digest(newest),
    }
    document["signature"] = key.sign(canonical_json(document)).hex()
    with _reached(path):
        files.add(canonical_json(document), after=newest)


def newest_head(path: Path, key: Ed25519PublicKey) -> ChainHead | None:
    """The newest one, if there is any and its signature holds."""
    with _reached(path):
        line = heads_at(path).newest()
    return _read(line, key).head if line is not None else None


def read_heads(path: Path, key: Ed25519PublicKey) -> list[ExportedHead]:
    """Raises a `Refusal` that names the head that is not signed, or does not follow one before it.

    Two may follow the same one: a controller that was about to add a head when it lost its lease. Nobody can make such
    a pair without the key, and any other head that is taken away is missed by the one that follows it."""
    heads: list[ExportedHead] = []
    earlier = {_digest(None)}
    with _reached(path):
        for line in heads_at(path).lines():
            if whole(line.content):
                heads.append(_read(line, key, earlier))
                earlier.add(_digest(line))
                earlier.discard(_digest(None))  # only the first follows none
    return heads


@contextlib.contextmanager
def _reached(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Refusal(
            f"find the heads at {path}", str(error), fix="name what was exported", code="not_found"
        ) from error
    except OSError as error:
        raise Transient(f"reach the heads at {path}", str(error), code="heads_unreachable") from error


def nothing_there(path: Path) -> Refusal:
    return Refusal(
        f"find the newest head in {path}",
        "there is none: perhaps it is not mounted, or somebody has removed them",
        fix="mount it; the very first head is made by `trueup log export-head`",
        code="heads_missing",
    )


async def check_heads(connection: Connection, heads: Sequence[ChainHead], now: ChainHead) -> tuple[int, str]:
    """(0, "") when the log still holds everything that was exported; else the first event that differs, and why."""
    with translated("compare the exported heads with the log"):
        begun = {epoch: event_id for event_id, epoch in await connection.fetch(RESTORES)}
        wanted = [head.event_id for head in heads]
        stored = dict(await connection.fetch(HASHES, wanted))
    for head in heads:
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


def _read(line: Line, key: Ed25519PublicKey, earlier: AbstractSet[str] | None = None) -> ExportedHead:
    """`earlier`: the digests of those of which it has to follow one."""
    try:
        document: dict[str, Any] = json.loads(line.content)
        signature = bytes.fromhex(document.pop("signature"))
        key.verify(signature, canonical_json(document))
        head = ChainHead(document["log_id"], document["epoch"], document["event_id"], bytes.fromhex(document["hash"]))
    except InvalidSignature as error:
        raise _invalid(line, "its signature does not hold") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _invalid(line, str(error)) from error
    if earlier is not None and document["previous"] not in earlier:
        raise _invalid(line, "it does not follow a head before it")
    return ExportedHead(head, line)


def _invalid(line: Line, why: str) -> Refusal:
    fix = "find out who changed it, and use a copy from elsewhere"
    return Refusal(f"read the head at {line.where}", why, fix=fix, code="head_invalid")


def _digest(line: Line | None) -> str:
    return hashlib.sha256(line.content).hexdigest() if line is not None else ""


def _load(path: Path, load: Any) -> Any:
    try:
        return load(path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise _key_refused(path, str(error)) from error


def _key_refused(path: Path, why: str) -> Refusal:
    fix = "make one: openssl genpkey -algorithm ed25519 -out head.key"
    return Refusal(f"read the key {path}", why, fix=fix, code="key_invalid")
