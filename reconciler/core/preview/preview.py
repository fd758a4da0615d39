"""A judged commit and a picture of the fleet into one plan. Called by `reconciler.planning` and `imagined`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kit.plain_text import counted
from reconciler.core.commands import Append, DeclareResource, GitCommand
from reconciler.core.findings import Finding, errors, ordered
from reconciler.core.planner import Plan, revision_of
from reconciler.core.preview import changes as changing
from reconciler.core.preview.capacity import environments_used, nodes_used
from reconciler.core.preview.document import Fleet, PlanDocument, PlannedChange
from reconciler.core.preview.roll_outs import roll_outs
from reconciler.core.preview.routes import route_effects
from reconciler.core.preview.simulation import decided, run
from reconciler.core.preview.wording import summary
from reconciler.core.preview.world import Rows, World, app_of, moving_world
from reconciler.core.revisions import CommitInfo, HeldApp, Refused, Source
from reconciler.core.signing.verdicts import SignedBy

STEADY = "An instance that is not ready now, and does not change, is taken to stay as it is; no time-out passes."


@dataclass(frozen=True, slots=True)
class Asked:
    """The commit as `reconciler.git.judge` judged it. `applied`: the commit that the fleet is at."""

    source: Source
    info: CommitInfo
    base: str
    plan: Plan | None
    findings: tuple[Finding, ...]
    applied: str = ""
    signatures: tuple[SignedBy, ...] = ()
    held: tuple[HeldApp, ...] = ()


def preview(rows: Rows, event_id: int, asked: Asked, fleet: Fleet, notes: Sequence[str] = ()) -> PlanDocument:
    """`rows`: of all views, from one moment; they stay as they are. `event_id`: of that moment."""
    blank = PlanDocument(
        source_id=asked.source.source_id,
        commit=asked.info.commit,
        base=asked.base,
        applied=asked.applied,
        author=asked.info.author,
        subject=asked.info.subject,
        fleet=fleet,
        event_id=event_id if fleet == "live" else 0,
        ok=False,
        complete=True,
        summary="",
        findings=asked.findings,
        notes=tuple(notes),
        signatures=asked.signatures,
    )
    if asked.plan is None or errors(asked.findings):
        return _refused(blank, asked, asked.findings)
    world = moving_world(rows, event_id, touched_apps(asked.plan.commands))
    revision = revision_of(asked.plan, asked.source, asked.info)
    decision = decided(rows, world.past.rows["releases"], revision, asked.plan.commands)
    if isinstance(decision, Refused):
        return _refused(blank, asked, ordered([*asked.findings, *decision.findings]))
    return _applied(replace(blank, ok=not asked.held, held=asked.held), rows, world, asked.plan, decision)


def _refused(blank: PlanDocument, asked: Asked, findings: tuple[Finding, ...]) -> PlanDocument:
    bad = counted(len(errors(findings)), "error")
    return replace(
        blank,
        summary=f"refused: {bad}",
        changes=tuple(changing.planned_changes(asked.plan)) if asked.plan else (),
        confirmations=tuple(changing.confirmations(asked.plan, findings)),
        findings=findings,
    )


def _applied(blank: PlanDocument, rows: Rows, world: World, plan: Plan, batch: Sequence[Append]) -> PlanDocument:
    trace = run(world, batch)
    changed = tuple(changing.changes(rows, batch))
    rolled = roll_outs(rows, world, trace, places_known=blank.fleet != "unknown")
    missing = tuple(changing.confirmations(plan, blank.findings))
    known = blank.fleet != "unknown"
    return replace(
        blank,
        complete=trace.complete,
        summary=summary(changed, rolled, len(missing)),
        changes=changed,
        roll_outs=rolled,
        routes=tuple(route_effects(rows, world.past.rows["resources"], changed, rolled)),
        nodes=tuple(nodes_used(world, trace)) if known else (),
        environments=tuple(environments_used(rows, world, trace)),
        confirmations=missing,
        notes=(*blank.notes, *_notes(blank, plan, changed, trace.complete, world.past.broken)),
    )


def touched_apps(commands: Iterable[GitCommand]) -> frozenset[str]:
    ids = [each.resource.id if isinstance(each, DeclareResource) else each.resource_id for each in commands]
    return frozenset(app_of(each) for each in ids) - {""}


def _notes(
    blank: PlanDocument, plan: Plan, changed: Sequence[PlannedChange], complete: bool, broken: Iterable[str]
) -> Iterable[str]:
    if same := len(plan.changes) - len(changed):
        yield (
            f"{counted(same, 'change')} of the commit is true already."
            if same == 1
            else (f"{counted(same, 'change')} of the commit are true already.")
        )
    if blank.applied != blank.base and blank.fleet == "live":
        yield (
            f"Only what changes between {blank.base[:12] or 'nothing'} and {blank.commit[:12]} is planned; what"
            f" {blank.applied[:12] or 'nothing'}, which is applied, has beyond that stays."
        )
    if not complete:
        yield "The simulation was ended by its bounds: what comes later is not told."
    for name in broken:
        yield f"The row {name} cannot be folded and is taken as it was."
