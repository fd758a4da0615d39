"""Short ways to make commands in the tests of the store."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from reconciler.core.commands import Append, Claim
from reconciler.core.events import NewEvent
from tests.unit.projections.samples import CAUSE, new_event

_numbers = itertools.count(1)


def command(
    *events: NewEvent,
    command_id: str = "",
    body_hash: str = "h",
    expected: dict[tuple[str, str], int] | None = None,
    take: Sequence[Claim] = (),
    free: Sequence[Claim] = (),
) -> Append:
    return Append(
        command_id or f"c-{next(_numbers)}", body_hash, CAUSE, events, expected or {}, tuple(take), tuple(free)
    )


def node_event(node_id: str = "node-a", reason: str = "") -> NewEvent:
    return new_event("node.state_changed", node_id=node_id, reason=reason)


def version(event: NewEvent, seq: int) -> dict[tuple[str, str], int]:
    return {(event.aggregate_type, event.aggregate_id): seq}
