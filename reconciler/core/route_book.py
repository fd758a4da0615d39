"""The route plan, which all edges share, kept while the rows change: only what changed is planned anew. Pure.

Held by `reconciler.server.plan_source`: `take` what changed in the views, run `settle` to its end, then `answer` any
number of edges. What they are told is `reconciler.core.plans.route_plan` of all rows. The last VERSIONS_MAX versions
are remembered by what changed in each, so an edge that holds one of them is sent a delta, and nothing is kept per edge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace

from kit.canonical import digest
from kit.codec import to_json
from kit.errors import TrueupError
from kit.plan_delta import ITEM_DIGITS, Document
from kit.wire import PlanDelta, PlannedRoute, RoutePlan
from reconciler.core.plan_rows import Change, Doc
from reconciler.core.plans import app_of, listed, planned_route

VERSIONS_MAX = 256
CHANGES_MAX = 20_000
"""Names of changed routes that are remembered with all versions."""
ROUTES_PER_TURN = 200
"""Planned in one go: some ten milliseconds."""
LIST = "routes"


class RouteBook:
    def __init__(self) -> None:
        self._rows: dict[str, Doc] = {}
        self._routes_of: dict[str, set[str]] = {}
        self._instances_of: dict[str, dict[str, Doc]] = {}
        self._stale: set[str] = set()
        self.broken: dict[str, str] = {}
        """Routes that cannot be planned, and why."""
        self._unlisted = False
        """The order, or who is in the plan, may have changed."""
        self._planned: dict[str, PlannedRoute] = {}
        self._documents: dict[str, Document] = {}
        self._digests: dict[str, str] = {}
        self._order: list[str] = []
        """Of those that are in the plan."""
        self._versions: deque[tuple[str, frozenset[str]]] = deque([(digest({LIST: {}}), frozenset())], VERSIONS_MAX)
        """The digest of each, and what changed with it. The newest is the last."""

    def take(self, view: str, changes: Iterable[Change]) -> None:
        for key, before, now in changes:
            if view == "resources" and (now or before or {}).get("kind") == "route":
                self._take_route(key, now)
            elif view == "instances":
                self._take_instance(key, before, now)

    def _take_route(self, name: str, now: Doc | None) -> None:
        self._stale.add(name)
        self._unlisted = True
        before = self._rows.pop(name, None)
        if before is not None:
            _remove(self._routes_of, app_of(before), name)
        if now is not None:
            self._rows[name] = now
            self._routes_of.setdefault(app_of(now), set()).add(name)

    def _take_instance(self, key: str, before: Doc | None, now: Doc | None) -> None:
        if before is not None:
            app = before["app"]
            self._instances_of[app].pop(key)
            self._stale |= self._routes_of.get(app, set())
            if not self._instances_of[app]:
                del self._instances_of[app]
        if now is not None:
            self._instances_of.setdefault(now["app"], {})[key] = now
            self._stale |= self._routes_of.get(now["app"], set())

    def settle(self) -> Iterator[None]:
        """Plans anew what may have changed; between two steps others may have their turn. What `answer` gives is of
        before until this is at its end."""
        planned: dict[str, PlannedRoute] = {}
        documents: dict[str, Document] = {}
        for number, name in enumerate(sorted(self._stale & self._rows.keys()), start=1):
            route = self._route(name)
            if route is not None and route != self._planned.get(name):
                planned[name], documents[name] = route, to_json(route)
            if number % ROUTES_PER_TURN == 0:
                yield
        gone = self._stale & self._planned.keys() - self._rows.keys()
        self._stale.clear()
        self._turn_to(planned, documents, gone)

    def _route(self, name: str) -> PlannedRoute | None:
        """None for one that cannot be planned. The edges keep what they have of it, and get all the others."""
        row = self._rows[name]
        try:
            route = planned_route(row, self._instances_of.get(app_of(row), {}).values())
        except TrueupError as error:
            self.broken[name] = str(error)
            return None
        self.broken.pop(name, None)
        return route

    def _turn_to(self, planned: Mapping[str, PlannedRoute], documents: Mapping[str, Document], gone: Set[str]) -> None:
        self._planned.update(planned)
        self._documents.update(documents)
        self._digests.update((name, digest(each, length=ITEM_DIGITS)) for name, each in documents.items())
        for name in gone:
            self.broken.pop(name, None)
            del self._planned[name], self._documents[name], self._digests[name]
        changed = {*planned, *gone}
        if self._unlisted:
            rows = [self._rows[name] for name in self._planned]
            before, self._order = self._order, listed(rows, self._planned)
            changed |= set(before) ^ set(self._order)
            self._unlisted = False
        if changed:
            self._versions.append((self._digest(), frozenset(changed)))
            while len(self._versions) > 1 and sum(len(names) for _, names in self._versions) > CHANGES_MAX:
                self._versions.popleft()

    def _digest(self) -> str:
        """As `kit.plan_delta` makes it of the whole."""
        return digest({LIST: {name: self._digests[name] for name in self._order}})

    def answer(self, edge_id: str, log_id: str, generation: int, base: str) -> Document:
        """The whole with its digest, or what changed since the version whose digest is `base`."""
        whole = self._versions[-1][0]
        touched: set[str] = set()
        for version, changed in reversed(self._versions):
            if version == base:
                return self._delta(PlanDelta(log_id, generation, base, whole, {}, {}), touched)
            touched |= changed
        plan = to_json(RoutePlan(edge_id, log_id, generation, digest=whole))
        return {**plan, LIST: [self._documents[name] for name in self._order]}

    def _delta(self, delta: PlanDelta, touched: Set[str]) -> Document:
        there = self._planned.keys() if len(self._order) == len(self._planned) else set(self._order)
        changed = tuple(self._documents[name] for name in sorted(touched & there))
        removed = tuple(sorted(touched - there))
        found = replace(delta, changed={LIST: changed} if changed else {}, removed={LIST: removed} if removed else {})
        document: Document = to_json(found)
        return document


def _remove(groups: dict[str, set[str]], group: str, name: str) -> None:
    groups[group].remove(name)
    if not groups[group]:
        del groups[group]
