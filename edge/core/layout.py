"""Which slot backend of haproxy serves which route.

haproxy cannot gain a backend while it runs, so its configuration has more backends ("slots") than routes. A route keeps
its slot for as long as it exists. A slot that still has servers or connections of an earlier route is `busy` and is not
given to another: a connection that looks for a second server after its first one failed must not meet another tenant's.
Used by `edge.dataplane.haproxy`; rendered by `config`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edge.core.limits import SLOTS_MAX, SLOTS_MIN
from edge.core.table import RouteTable
from kit.errors import Refusal


@dataclass(frozen=True, slots=True)
class Layout:
    """`slots`: how many there are. `placed`: route_id -> its slot, counted from 0."""

    slots: int = SLOTS_MIN
    placed: Mapping[str, int] = field(default_factory=dict)


def place(previous: Layout, table: RouteTable, busy: frozenset[int] = frozenset()) -> Layout:
    """The layout for `table` that changes least. The number of slots only doubles, so that reloads are rare."""
    wanted = [route.route_id for route in table.routes]
    kept = {route_id: slot for route_id in wanted if (slot := previous.placed.get(route_id)) is not None}
    new = sorted(route_id for route_id in wanted if route_id not in kept)
    taken = busy | set(kept.values())
    slots = _enough(previous.slots, len(new) + len(taken))
    free = _free(slots, taken)
    placed = kept | {route_id: next(free) for route_id in new}
    return Layout(slots, dict(sorted(placed.items())))


def _enough(slots: int, needed: int) -> int:
    while slots < needed:
        slots *= 2
    if slots > SLOTS_MAX:
        raise Refusal(
            "place the routes on slots",
            f"{needed} slots are needed, {SLOTS_MAX} is the bound",
            fix="spread the routes over more edges",
            code="too_many_routes",
        )
    return slots


def _free(slots: int, taken: frozenset[int]) -> Iterator[int]:
    return (slot for slot in range(slots) if slot not in taken)
