"""What a reader's filter shows now, as lines of the stream, from one snapshot of the views. Used by
`reconciler.server.streams`.

A machine gets its plan: the head as one line, then each item. People get the rows of the views whose things match their
filter. The lines are made while they are written: of all that is shown only the rows themselves are in memory, which
the views keep anyway. A snapshot that is being written keeps them from going, so there is a bound on how many are.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kit.canonical import digest
from kit.codec import to_json
from kit.plan_delta import NAME_OF_LIST, items_of
from reconciler.core.filters import ALL, EDGE, Place, PlaceFilter, is_place, node_of
from reconciler.core.model import KINDS, NO_PART
from reconciler.core.permission import Identity
from reconciler.ports import Views, ViewSnapshot
from reconciler.server.limits import Limits
from reconciler.server.plan_source import PlanSource
from reconciler.server.problems import Problem
from reconciler.server.sent_plans import SentPlans

Doc = Mapping[str, Any]
_encode = msgspec.json.Encoder(enc_hook=to_json).encode
ROWS_PER_TURN = 500
"""Looked at before others of this process get their turn: one or two milliseconds."""


def _of_resource(row: Doc) -> Place:
    env, app = ("" if row[name] == NO_PART else row[name] for name in ("env", "app"))
    return Place(row["org"], row["project"], env, app, row["kind"])


def _of_app(kind: str) -> Callable[[Doc], Place]:
    def place_of_row(row: Doc) -> Place:
        org, project, env, app, *_ = row["app"].split("/")
        return Place(org, project, env, app, kind)

    return place_of_row


PLACE_OF_ROW: Mapping[str, Callable[[Doc], Place]] = {
    "sources": lambda row: Place(row["org"], kind="source"),
    "nodes": lambda row: Place(kind="node"),
    "resources": _of_resource,
    "releases": _of_app("release"),
    "deployments": _of_app("deployment"),
    "instances": _of_app("instance"),
}
"""The views that people get rows of, in this order. As `reconciler.core.filters.place_of` has it for their events."""
KINDS_WITH_ROWS = (*KINDS, "release", "deployment", "instance", "source", "node")


@dataclass(frozen=True, slots=True)
class Shown:
    """`lines`: as of event `event_id` or later (each row says its own); an empty one is no line, only time gone by."""

    log_id: str
    event_id: int
    lines: Iterator[bytes]


class Snapshots:
    """`sent_plans`: what each node was told last, so that its next plan can be a delta."""

    def __init__(self, views: Views, plans: PlanSource, sent_plans: SentPlans, limits: Limits) -> None:
        self._views = views
        self._plans = plans
        self._sent_plans = sent_plans
        self._limits = limits
        self._open = self._refused = 0
        self._rng = random.Random()  # noqa: S311  # jitter

    @contextlib.asynccontextmanager
    async def shown(self, identity: Identity, key: str) -> AsyncIterator[Shown]:
        """Around all that is done with it. 503 while too many are."""
        if self._open >= self._limits.snapshots_max:
            self._refused += 1
            after_s = 1 + int(self._rng.uniform(0, self._refused / self._limits.snapshots_per_s))
            fix = "come back after the time that is told"
            raise Problem("unavailable", "too many snapshots are being written", fix=fix, retry_after_s=after_s)
        self._open += 1
        self._refused = max(0, self._refused - 1)
        try:
            yield await self._take(identity, key)
        finally:
            self._open -= 1

    async def _take(self, identity: Identity, key: str) -> Shown:
        if key == ALL or is_place(key):
            wanted = PlaceFilter() if key == ALL else PlaceFilter.of(key)
            if wanted.kind and wanted.kind not in KINDS_WITH_ROWS:
                why = f"what is of kind {wanted.kind} has no rows to begin with"
                fix = f"leave out snapshot=1, or one of {', '.join(KINDS_WITH_ROWS)}"
                raise Problem("invalid_argument", why, fix=fix)
            now = await self._views.snapshot(PLACE_OF_ROW)
            return Shown(now.log_id, now.event_id, _rows(now, wanted))
        plan = await self._plan(identity, key)
        return Shown(plan["log_id"], plan["generation"], _plan_lines(plan))

    async def _plan(self, identity: Identity, key: str) -> Doc:
        """As the machine's own route answers, with its digest."""
        if key == EDGE:
            return await self._plans.route_plan(identity.name if identity.role == "edge" else "", "")
        node_id = node_of(key)
        plan = await self._plans.node_plan(node_id)
        if plan is None:
            raise Problem("node_unknown", f"node {node_id} is not enrolled", fix="the agent enrols at its start")
        return self._with_digest(identity, to_json(plan))

    def _with_digest(self, identity: Identity, document: Doc) -> Doc:
        """A person who looks at a machine's plan is not the machine, which goes on from what it was sent itself."""
        if identity.role == "node":
            return self._sent_plans.answer(str(identity), document, "")
        return {**document, "digest": digest(items_of(document))}


async def pieces(lines: Iterable[bytes], bytes_max: int) -> AsyncIterator[bytes]:
    """The lines, joined to pieces that a single line may make larger than `bytes_max`, and no more."""
    piece, size = list[bytes](), 0
    for looked_at, line in enumerate(lines, start=1):
        if piece and size + len(line) > bytes_max:
            yield b"".join(piece)
            piece, size = [], 0
        if line:
            piece.append(line)
            size += len(line)
        if looked_at % ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
    if piece:
        yield b"".join(piece)


def _rows(now: ViewSnapshot, wanted: PlaceFilter) -> Iterator[bytes]:
    for view, place_of_row in PLACE_OF_ROW.items():
        for key, doc in now.rows[view].items():
            yield _row_line(view, key, doc) if wanted.matches(place_of_row(doc)) else b""


def _plan_lines(document: Doc) -> Iterator[bytes]:
    head = {name: value for name, value in document.items() if name not in NAME_OF_LIST}
    yield _encode({"type": "plan", **head}) + b"\n"
    for each, name in NAME_OF_LIST.items():
        for item in document.get(each, ()):
            yield _row_line(each, item[name], item)


def _row_line(view: str, key: str, doc: Doc) -> bytes:
    return _encode({"type": "row", "view": view, "key": key, "doc": doc}) + b"\n"
