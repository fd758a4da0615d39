"""One commit, judged: its signatures checked, read, validated, planned from the applied commit, and guarded.

`reconciler.tasks.git_sync` calls `judge` for each new head and `trueup plan` for any two commits, so that both say the
same. It reads objects and computes; what is decided is decided by pure functions of `reconciler.core`, and nothing is
written. Call it in a worker thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from reconciler.core.cross_checks import Assembled
from reconciler.core.declared import Scope
from reconciler.core.findings import Finding, errors, ordered
from reconciler.core.guards import check
from reconciler.core.isolation import Isolated, isolate
from reconciler.core.model import ResourceId
from reconciler.core.planner import Plan, plan
from reconciler.core.revisions import CommitInfo, HeldApp, Source
from reconciler.core.secret_file import ResolveSecret
from reconciler.core.signing.verdicts import SignedBy
from reconciler.core.trailers import read_confirmations
from reconciler.git.addresses import path_parts
from reconciler.git.applied import Applied
from reconciler.git.live_rows import Following, Row
from reconciler.git.objects import Objects, ObjectStore
from reconciler.git.reading_ended import ReadingEnded
from reconciler.git.signatures import Checked, SignatureCheck
from reconciler.git.tree_files import TreeFiles
from reconciler.git.tree_reader import TreeReader

REWRITE_DIGITS_MIN = 12
"""Of the commit that an operator accepts: enough to mean one commit."""


@dataclass(frozen=True, slots=True)
class Judged:
    """`plan` is None when there was no way to make one. With errors among `findings` it must not be carried out.
    `signatures`: the good ones of the commits since the base, newest first; empty when none are asked for. `held`: the
    apps that stay as they are live; `released`: those that did so until now."""

    info: CommitInfo
    base: str
    plan: Plan | None
    findings: tuple[Finding, ...]
    signatures: tuple[SignedBy, ...] = ()
    held: tuple[HeldApp, ...] = ()
    released: tuple[str, ...] = ()


def reader_for(source: Source, objects: ObjectStore, resolve: ResolveSecret) -> TreeReader:
    """In this process: for the command line, where the repository is the user's own."""
    files = TreeFiles(objects, Scope(source.org, source.project), path_parts(source.path))
    return TreeReader(files, resolve)


def judge(
    source: Source,
    objects: Objects,
    reader: TreeReader,
    *,
    head: str,
    base: str,
    rows: Mapping[str, Row] = MappingProxyType({}),
    held: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    blamed: Mapping[str, tuple[Finding, ...]] = MappingProxyType({}),
    signatures: SignatureCheck | None = None,
    rebound: bool = False,
    since: str | None = None,
    following: Following | None = None,
) -> Judged:
    """`base`: the applied commit, "" for none. `rows`: the view `resources`. `following`: for whoever judges the
    commits of the source one after the other. `held`: the
    apps that the base holds back, each with the files that could not be read. `blamed`: what the live system has
    against apps of this very commit. `signatures`: None when none are asked for. `rebound`: the base was applied under
    another binding of the source, so that what it declared is what the rows say. `since`: for a head that is applied
    and judged again, what it was applied onto: signatures and confirmations of the commits after that count."""
    following = following or Following(source.source_id)
    live = following.read(rows)
    found = objects.commit(head)
    info = CommitInfo(head, found.author, found.subject)
    readable = bool(base) and objects.has(base)
    accepted = _accepts_rewrite(source, head)
    if base and not accepted and not (readable and objects.descends(head, base)):
        return Judged(info, base, None, (_rewritten(source, head, base),))
    if elsewhere := live.outside_of(source.org, source.project):
        return Judged(info, base, None, (_bound_elsewhere(source, elsewhere),))
    asked = base if readable else ""
    if since is not None and (not since or objects.has(since)):
        asked = since
    checked = _checked(signatures, objects, base=asked, head=head, answered_for=accepted)
    if errors(checked.findings):
        return Judged(info, base, None, checked.findings, checked.signatures)
    try:
        applied = Applied.read(reader, base, live, held, readable=readable and not rebound)
        after = reader.read(head)
    except ReadingEnded as ended:
        return Judged(info, base, None, ordered([*checked.findings, ended.finding]), checked.signatures)
    left = _what_is_left(source, after, applied, blamed, may_hold=not accepted)
    if not isinstance(left, Isolated):
        return Judged(info, base, None, ordered([*checked.findings, *left]), checked.signatures)
    back = frozenset(each.app for each in left.held)
    confirmations = read_confirmations(objects.messages_since(asked, head))
    before = applied.tree if base else None
    differing = applied.differing(after, following)
    known = differing is not None and before is applied.live.tree
    planned = plan(
        before,
        left.tree,
        source=source,
        info=info,
        base_commit=base,
        retained=live.retained,
        confirmations=confirmations,
        held=back,
        differing=differing | left.without if known and differing is not None else None,
    )
    refusals = check(planned, left.tree, source, confirmations, before, back)
    approved: tuple[Finding, ...] = ()
    if signatures:
        envs = {change.resource_id.env for change in planned.changes} | (applied.envs(after) if back else frozenset())
        approved = signatures.missing_for_envs(checked, envs, source.path)
    warnings = [each for each in after.findings if each.severity == "warning"]
    findings = ordered([*checked.findings, *approved, *warnings, *(refusals or planned.findings)])
    released = tuple(sorted(app for app in applied.held if app and app not in back))
    return Judged(info, base, planned, findings, checked.signatures, left.held, released)


def _what_is_left(
    source: Source,
    after: Assembled,
    applied: Applied,
    blamed: Mapping[str, tuple[Finding, ...]],
    *,
    may_hold: bool,
) -> Isolated | tuple[Finding, ...]:
    """`may_hold`: not when an operator lets another history in, where what a held app needs may not be."""
    if not errors(after.findings) and not blamed:
        return Isolated(after.tree, ())
    if source.rules.on_error != "hold-app" or not may_hold:
        return (*after.findings, *(finding for findings in blamed.values() for finding in findings))
    found = isolate(after, applied.situation(blamed))
    return found if isinstance(found, Isolated) else (*after.findings, *found)


def _checked(
    signatures: SignatureCheck | None, objects: Objects, *, base: str, head: str, answered_for: bool
) -> Checked:
    if signatures is None:
        return Checked()
    return signatures.check(objects, base=base, head=head, answered_for=answered_for)


def _accepts_rewrite(source: Source, head: str) -> bool:
    return len(source.accepted_rewrite) >= REWRITE_DIGITS_MIN and head.startswith(source.accepted_rewrite)


def is_rebound(source: Source, row: Row) -> bool:
    """`row`: of the view `sources`. Whether the applied commit was applied for another folder or project."""
    return bool(row.get("applied_commit")) and row.get("applied_as", source.binding) != source.binding


def _bound_elsewhere(source: Source, elsewhere: Sequence[ResourceId]) -> Finding:
    """Never deleted for it, and never declared anew elsewhere while they are there."""
    there = f"{elsewhere[0].org}/{elsewhere[0].project}"
    count = f"{len(elsewhere)} resource{'s' * (len(elsewhere) != 1)}"
    return Finding(
        path="",
        line=0,
        column=0,
        pointer="",
        code="source_bound_elsewhere",
        message=f"the source {source.source_id} has {count} in {there}, and is now bound to"
        f" {source.org}/{source.project}; nothing is changed",
        fix=f"bind it to {there} again; follow the repository for {source.org}/{source.project} under another name",
    )


def _rewritten(source: Source, head: str, base: str) -> Finding:
    return Finding(
        path="",
        line=0,
        column=0,
        pointer="",
        code="history_rewritten",
        message=f"the branch {source.branch} was rewritten: {head[:12]} does not descend from the applied {base[:12]}",
        fix=f"push a commit that descends from {base[:12]};"
        f" or an operator starts the controller with --accepted-rewrite {head} (or accepted_rewrite of its table)",
    )
