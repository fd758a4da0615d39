"""An operator's imperative acts: what can be asked for, in words that the server, the deciders and the readers share.

Git owns what should run. An act diverges from it for a while: it has an actor and a reason, it is shown until it is
over (view `acts`), and it ends: by another act, at the time that was given with it, or by a commit. Made by
`reconciler.server.acts` and `reconciler.tasks.expiry`, decided in `reconciler.core.decide`, recorded by
`reconciler.handlers.acts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from reconciler.core.events import ActorType, Cause

Doc = Mapping[str, Any]

Duty = Literal["active", "draining", "disabled"]
"""What an operator lets a node do. `draining`: nothing is placed there, stateless instances move away one after the
other, stateful ones stay. `disabled`: the same, without an end of its own, and that it may fall silent is no
trouble."""

REASON_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class SetDuty:
    node_id: str
    duty: Duty


@dataclass(frozen=True, slots=True)
class _OfScope:
    """`scope`: source/NAME, env/ENV, or an app as ENV/APP."""

    scope: str


class Suspend(_OfScope):
    __slots__ = ()


class Resume(_OfScope):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Keeps an app on one of its releases although Git says another."""

    app: str
    release_id: str


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    app: str


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Over at once: the scheduler puts another one in its place."""

    instance_id: str


Act = SetDuty | Suspend | Resume | Hold | ReleaseHold | StopInstance


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants an act, why, and until when (RFC 3339; "": until somebody ends it). `body_hash`: of all that was asked;
    the same `command_id` with another one is another act, and refused."""

    command_id: str
    body_hash: str
    actor_type: ActorType
    actor_id: str
    reason: str
    until: str = ""


def cause_of(order: Order, org_id: str = "", **more: Any) -> Cause:
    return Cause(order.actor_type, order.actor_id, org_id, **more)


def replicas_of(app_row: Doc) -> dict[str, int]:
    """How many of each process are wanted: what Git says, and for processes that only a held release knows what ran
    when the hold began."""
    said = {name: int(spec.get("replicas", 1)) for name, spec in app_row["spec"]["processes"].items()}
    return {**((app_row.get("hold") or {}).get("replicas") or {}), **said}


def is_over(row: Doc, now: datetime) -> bool:
    """The time that was given with the act has come."""
    return bool(row["until"]) and datetime.fromisoformat(row["until"]) <= now


def ending(key: str, row: Doc) -> Act:
    """What ends the act with that row."""
    match row["act"]:
        case "suspend":
            return Resume(key)
        case "hold":
            return ReleaseHold(row["app"])
        case _:
            return SetDuty(row["node_id"], "active")
