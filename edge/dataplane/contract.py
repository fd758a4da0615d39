"""What the edge needs from a dataplane. `haproxy` is the real one, `fake` the one of tests; one suite tests both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from edge.core.table import Protocol as RouteProtocol
from edge.core.table import RouteTable


@dataclass(frozen=True, slots=True)
class Serving:
    """What really is in force. `served`: key of a route -> names of the servers that get its new connections.
    `draining`: names of servers that serve nothing any more but what is still open."""

    generation: int
    listeners: Mapping[int, RouteProtocol]
    served: Mapping[str, frozenset[str]]
    draining: frozenset[str] = frozenset()


class Dataplane(Protocol):
    async def apply(self, table: RouteTable, generation: int) -> None:
        """All or nothing: after it returns the dataplane serves `table`, after it raised it serves what it served
        before. The same table again changes nothing. A server that left gets no new connections at once; its open ones
        go on until they end or the drain bound passes. `Transient`: the same call may work later."""
        ...

    async def blocked_ports(self, ports: Iterable[int]) -> Mapping[int, str]:
        """Those of `ports` that this host cannot listen on now, with the reason."""
        ...

    async def observe(self) -> Serving | None:
        """None when nothing runs."""
        ...

    async def tend(self) -> None:
        """Called about once a second: revive a dead process into the last applied table, remove drained servers."""
        ...

    async def stop(self) -> None:
        """End it, connections included. Only an operator asks for this; the edge program's end does not."""
        ...
