"""The last accepted plan, on disk: what the edge applies at its start when no controller answers. Used by `edge.loop`.

Written before the plan is applied, so that a restart never goes back to an older one. A file that cannot be read is put
aside and counts as "nothing known": then the dataplane is left as it is until a plan comes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edge.core.reading import read_plan
from edge.core.table import EMPTY, RouteTable
from kit import logs
from kit.codec import from_json, to_json
from kit.errors import Refusal, TrueupError
from kit.files import write_json
from kit.wire import RoutePlan

_log = logs.get("ledger")


@dataclass(frozen=True, slots=True)
class Accepted:
    """`held`: the route ids that won what they claim; they keep it against later claimants, restarts included."""

    plan: RoutePlan
    held: tuple[str, ...] = ()

    @property
    def table(self) -> RouteTable:
        """What these routes make of the plan, with every ambiguity settled in their favour."""
        routes = tuple(route for route in self.plan.routes if route.route_id in set(self.held))
        return read_plan(RoutePlan(self.plan.edge_id, self.plan.log_id, self.plan.generation, routes)).table


class Ledger:
    def __init__(self, state: Path, edge_id: str) -> None:
        self._path = state / "plan.json"
        self._edge_id = edge_id
        self.accepted: Accepted | None = None

    def load(self) -> Accepted | None:
        try:
            self.accepted = from_json(Accepted, json.loads(self._path.read_text()), where=str(self._path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TrueupError) as error:
            aside = self._path.with_suffix(".unreadable")
            _log.error("the last plan cannot be read, it is put aside", exc=error, path=str(aside))
            self._path.replace(aside)
            return None
        if self.accepted.plan.edge_id != self._edge_id:
            whose = self.accepted.plan.edge_id
            self.accepted = None
            raise Refusal(
                f"start as edge {self._edge_id}",
                f"{self._path} is a plan of edge {whose}",
                fix="use another --state, or remove that folder after `trueup-edge --stop-all`",
                code="settings_invalid",
            )
        return self.accepted

    def check(self, plan: RoutePlan) -> None:
        """A `Refusal` for a plan that is not ours or older than the accepted one of the same log."""
        attempted = f"accept route plan {plan.generation} of log {plan.log_id}"
        if plan.edge_id != self._edge_id:
            raise Refusal(attempted, f"it is for edge {plan.edge_id}, this is {self._edge_id}", code="plan_foreign")
        accepted = self.accepted.plan if self.accepted else None
        if accepted and accepted.log_id == plan.log_id and plan.generation < accepted.generation:
            raise Refusal(attempted, f"generation {accepted.generation} is already accepted", code="generation_old")

    def accept(self, plan: RoutePlan, table: RouteTable) -> None:
        accepted = Accepted(plan, tuple(route.route_id for route in table.routes))
        if accepted != self.accepted:
            write_json(self._path, to_json(accepted))
            self.accepted = accepted

    @property
    def held(self) -> RouteTable:
        return self.accepted.table if self.accepted else EMPTY
