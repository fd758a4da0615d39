"""Machines that join and are revoked, tokens of people and CI. Called by `reconciler.handlers.identities`.

A join token works once: its use is an event of the machine's own aggregate, decided on the version that was read, so of
two that come at once one is decided anew and finds the token used. Whoever shows a token that was used, expired or
replaced knew its secret: that is an alarm. The same key with the same token is the same machine, whose answer was lost.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kit.canonical import digest
from kit.errors import Refusal
from reconciler.core.commands import Append
from reconciler.core.events import Cause, NewEvent
from reconciler.core.permission import SCOPED_VERBS

Doc = Mapping[str, Any]
ALARMS_MAX = 10
"""Events of misuse until somebody gives a new token; what comes after is only refused."""


@dataclass(frozen=True, slots=True)
class Invite:
    identity_id: str
    token_id: str
    digest: str
    expires_at: str


@dataclass(frozen=True, slots=True)
class Join:
    """`digest`: of the secret that was shown. `key_id`: of the key that is to be certified."""

    identity_id: str
    token_id: str
    digest: str
    key_id: str
    remote: str


@dataclass(frozen=True, slots=True)
class NewToken:
    token_id: str
    name: str
    digest: str
    org: str
    project: str
    verbs: tuple[str, ...]
    expires_at: str


def decide_invite(row: Doc | None, invite: Invite, cause: Cause) -> Append:
    payload = {name: getattr(invite, name) for name in ("identity_id", "token_id", "digest", "expires_at")}
    return _append(row, invite.identity_id, "identity.invited", payload, cause, f"invite-{invite.token_id}")


def decide_join(row: Doc | None, join: Join, now: datetime, cause: Cause) -> Append | Refusal | int:
    """An int: it has joined before, with this very key, as that generation. An append of identity.token_misused is a
    refusal too."""
    token = _token_of(row, join)
    if row is None or token is None:
        return join_refused(join.identity_id)
    if token["state"] == "used" and row["state"] == "joined" and row["key_id"] == join.key_id:
        return int(row["generation"])
    wrong = "token_expired" if now >= datetime.fromisoformat(token["expires_at"]) else ""
    wrong = f"token_{token['state']}" if token["state"] != "open" else wrong
    payload: dict[str, Any] = {"identity_id": join.identity_id, "token_id": join.token_id}
    if not wrong:
        generation = int(row["generation"]) + 1
        payload |= {"generation": generation, "key_id": join.key_id, "remote": join.remote}
        return _append(row, join.identity_id, "identity.joined", payload, cause, f"join-{join.token_id}")
    if (row["alarm"] or {"count": 0})["count"] >= ALARMS_MAX:
        return join_refused(join.identity_id)
    payload |= {"reason_code": wrong, "remote": join.remote}
    command_id = f"misused-{digest([join.identity_id, join.token_id, row['aggregate_seq']], length=32)}"
    return _append(row, join.identity_id, "identity.token_misused", payload, cause, command_id)


def decide_revoke(row: Doc | None, identity_id: str, reason: str, cause: Cause) -> Append | Refusal | None:
    if row is None:
        why = "no machine was ever invited under this name"
        return Refusal(f"revoke {identity_id}", why, fix="`trueup status` lists them", code="identity_unknown")
    if row["state"] == "revoked":
        return None
    payload = {"identity_id": identity_id, "reason": reason}
    command_id = f"revoke-{digest([identity_id, row['aggregate_seq']], length=32)}"
    return _append(row, identity_id, "identity.revoked", payload, cause, command_id)


def decide_token(row: Doc | None, token: NewToken, cause: Cause) -> Append | Refusal:
    unknown = sorted(set(token.verbs) - SCOPED_VERBS)
    if unknown or not token.verbs:
        why = f"a token cannot be for {', '.join(unknown) or 'nothing'}"
        return Refusal("create a token", why, fix=f"choose of {', '.join(sorted(SCOPED_VERBS))}", code="scope_invalid")
    names = ("token_id", "name", "digest", "org", "project", "expires_at")
    payload = {**{name: getattr(token, name) for name in names}, "verbs": sorted(set(token.verbs))}
    return _append(row, token.token_id, "token.created", payload, cause, f"token-{token.token_id}")


def decide_revoke_token(row: Doc | None, token_id: str, reason: str, cause: Cause) -> Append | Refusal | None:
    if row is None:
        return Refusal(f"revoke token {token_id[:40]}", "there is no such token", code="not_found")
    if row["revoked"]:
        return None
    payload = {"token_id": token_id, "reason": reason}
    return _append(row, token_id, "token.revoked", payload, cause, f"revoke-{token_id}")


def join_refused(identity_id: str) -> Refusal:
    """Says nothing about which part was wrong."""
    return Refusal(
        f"join as {identity_id}",
        "the join token is not good: it works once, for ten minutes, for one name",
        fix="`trueup node token NAME` or `trueup edge token NAME` makes a new one",
        code="join_refused",
    )


def _token_of(row: Doc | None, join: Join) -> Doc | None:
    """The token that was shown, if its secret is right."""
    if row is None:
        return None
    found = (each for each in row["tokens"] if each["token_id"] == join.token_id)
    token: Doc | None = next(found, None)
    return token if token is not None and hmac.compare_digest(token["digest"], join.digest) else None


def _append(row: Doc | None, aggregate_id: str, event_type: str, payload: Doc, cause: Cause, command_id: str) -> Append:
    kind = event_type.partition(".")[0]
    return Append(
        command_id=command_id,
        body_hash=digest([event_type, dict(payload)]),
        cause=cause,
        events=(NewEvent(kind, aggregate_id, event_type, payload),),
        expected={(kind, aggregate_id): int(row["aggregate_seq"]) if row else 0},
    )
