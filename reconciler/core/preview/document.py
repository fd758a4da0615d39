"""A plan as data: what GET /v1/plan answers and `trueup plan --output json` prints. Schema: schemas/wire/plan.json.

Made by `preview`, told to people by `markdown` and `reconciler.cli.plan`. Sizes are in bytes, times in seconds. It
holds no value of a secret, encrypted or not. New fields may come; what is there keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from reconciler.core.difference import FieldChange
from reconciler.core.findings import Finding
from reconciler.core.revisions import ChangeVerb, HeldApp
from reconciler.core.signing.verdicts import SignedBy

Fleet = Literal["live", "simulated", "unknown"]
"""live: the views of a controller. simulated: nodes that the caller described. unknown: room is taken for granted, and
nothing is said about places."""


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """`was_path`, `was_line`: where it was declared before, if that changes. `was_source`: the source that it is taken
    over from, "" for none; what runs goes on running. `fields`: of an update. `note`: what else follows, such as data
    that is lost."""

    verb: ChangeVerb
    resource: str
    resource_id: str
    path: str
    line: int
    was_path: str = ""
    was_line: int = 0
    was_source: str = ""
    fields: tuple[FieldChange, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class RollOutStep:
    """`step`: the scheduler's pass, from 1; acts of one step happen together, and the next one waits for their end.
    `instance`: its id, or new-N. `at`: the node, "" when the fleet is unknown."""

    step: int
    act: Literal["start", "drain", "stop"]
    instance: str
    at: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """No replica serves from `from_step` until the end of `to_step`, which is 0 when it does not end in this plan.
    `at_most_s`: drain and start together, when the new instance gets ready in the time that its manifest allows; None
    when it does not end."""

    from_step: int
    to_step: int
    at_most_s: float | None


@dataclass(frozen=True, slots=True)
class RollOut:
    """One process of one app. `by_commit`: False for what moves now anyway. `at_once_max`: instances that exist at the
    same time, draining ones included. `placed`: node -> instances after it. `unschedulable`: a reason of the closed
    list, "" for none. `outcome`: of the app's deployment, "" when it has none. `last_seconds`: what the app's last
    successful deployment took, None when that is not known."""

    app: str
    resource_id: str
    process: str
    by_commit: bool
    stateful: bool
    wanted_before: int
    wanted_after: int
    starts: int
    stops: int
    at_once_max: int
    serving_before: int
    serving_least: int
    serving_after: int
    gap: Gap | None = None
    steps: tuple[RollOutStep, ...] = ()
    placed: Mapping[str, int] | None = None
    unschedulable: str = ""
    unschedulable_message: str = ""
    outcome: str = ""
    last_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NodeUse:
    """Memory with the overhead of each machine. `used_peak_bytes`: while the roll-outs go on."""

    node_id: str
    memory_bytes: int
    used_before_bytes: int
    used_peak_bytes: int
    used_after_bytes: int
    instances_before: int
    instances_after: int


@dataclass(frozen=True, slots=True)
class EnvironmentUse:
    """What instances of the environment take, as a quota counts it: the overhead of machines included."""

    environment: str  # ORG/PROJECT/ENV
    instances_before: int
    instances_after: int
    memory_before_bytes: int
    memory_after_bytes: int


@dataclass(frozen=True, slots=True)
class RouteEffect:
    """`verb` backends: the route stays as it is, the instances behind it change."""

    route: str
    hostname: str
    listen_port: int
    process: str
    verb: Literal["create", "update", "delete", "backends"]
    message: str


@dataclass(frozen=True, slots=True)
class Confirmation:
    """`line`: what the message of a commit has to end with."""

    line: str
    resource: str
    why: str


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """`ok`: the commit would be applied, whole. `held`: apps that would be held back while the rest is applied.
    `event_id`: of the live views that it was planned on, 0 for none. `applied`: the commit that is applied there;
    when it is not `base`, only what lies between base and commit is planned. `complete`: False when a bound ended
    the simulation early. `notes`: what this plan does not know. `signatures`: the good ones, when any are asked for."""

    source_id: str
    commit: str
    base: str
    applied: str
    author: str
    subject: str
    fleet: Fleet
    event_id: int
    ok: bool
    complete: bool
    summary: str
    changes: tuple[PlannedChange, ...] = ()
    roll_outs: tuple[RollOut, ...] = ()
    routes: tuple[RouteEffect, ...] = ()
    nodes: tuple[NodeUse, ...] = ()
    environments: tuple[EnvironmentUse, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    signatures: tuple[SignedBy, ...] = ()
    held: tuple[HeldApp, ...] = ()

    @property
    def applies(self) -> bool:
        """Whether anything would happen."""
        return self.ok or bool(self.held)


@dataclass(frozen=True, slots=True)
class RenderedPlan:
    """For a comment on a pull request and its commit status. `markdown` is bounded (`markdown.COMMENT_CHARS_MAX`) and
    safe to post whatever the manifests say; `summary` is one line for a status."""

    markdown: str
    ok: bool
    summary: str
