"""View `identities`: the machines that may join or have joined, by node/NAME and edge/NAME. Read by the server, which
asks it about every certificate, by the handlers of joining, and by the status.

`generation`: how often a machine joined under the name; a certificate of an older one is void. `tokens`: the newest
join tokens, of which only keyed digests are known. `alarm`: a misused token, until somebody gives a new one or revokes.
"""

from __future__ import annotations

from typing import Any

from reconciler.core.events import Event
from reconciler.core.projection import Doc, begun, require_version, stamped

name = "identities"
aggregate_types = frozenset({"identity"})

TOKENS_MAX = 8
"""Remembered per machine: one that is older is refused as one that never was."""


def keys(event: Event) -> frozenset[str]:
    return frozenset({event.aggregate_id}) if event.aggregate_type == "identity" else frozenset()


def fold(key: str, row: Doc | None, event: Event) -> Doc | None:
    require_version(event)
    told = event.payload
    if event.event_type == "identity.invited":
        fresh = {"identity_id": key, "state": "invited", "generation": 0, "reason": ""} if row is None else {}
        return stamped(row, event, {**fresh, "tokens": _with_token(row, told), "alarm": None})
    row = begun(row, event)
    match event.event_type:
        case "identity.joined":
            tokens = [_used(each) if each["token_id"] == told["token_id"] else each for each in row["tokens"]]
            shown = {name: told[name] for name in ("generation", "key_id", "remote")}
            return stamped(row, event, {**shown, "state": "joined", "tokens": tokens, "joined_at": event.occurred_at})
        case "identity.token_misused":
            count = (row["alarm"] or {"count": 0})["count"] + 1
            shown = {name: told[name] for name in ("token_id", "reason_code", "remote")}
            return stamped(row, event, {"alarm": {**shown, "at": event.occurred_at, "count": count}})
        case "identity.revoked":
            return stamped(row, event, {"state": "revoked", "reason": told["reason"], "tokens": [], "alarm": None})
        case _:
            return row


def _with_token(row: Doc | None, told: Doc) -> list[Any]:
    """A token that was not used is replaced by a newer one."""
    before = [_replaced(each) for each in (row["tokens"] if row else ())]
    new = {name: told[name] for name in ("token_id", "digest", "expires_at")}
    return [*before, {**new, "state": "open"}][-TOKENS_MAX:]


def _used(token: Doc) -> Doc:
    return {**token, "state": "used"}


def _replaced(token: Doc) -> Doc:
    return {**token, "state": "replaced"} if token["state"] == "open" else token
