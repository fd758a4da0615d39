"""One commit, judged: its signatures checked, read, validated, planned from the applied commit, and guarded.

`reconciler.tasks.git_sync` calls `judge` for each new head and `trueup plan` for any two commits, so that both say the
same. It reads objects and computes; what is decided is decided by pure functions of `reconciler.core`, and nothing is
written. Call it in a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.core.cross_checks import Tree
from reconciler.core.declared import Scope
from reconciler.core.findings import Finding, errors, ordered
from reconciler.core.guards import check
from reconciler.core.model import Origin, Resource, ResourceId
from reconciler.core.planner import Plan, plan
from reconciler.core.revisions import CommitInfo, Source
from reconciler.core.secret_file import ResolveSecret
from reconciler.core.signing.verdicts import SignedBy
from reconciler.core.trailers import read_confirmations
from reconciler.git.addresses import path_parts
from reconciler.git.objects import Objects, ObjectStore
from reconciler.git.reading_ended import ReadingEnded
from reconciler.git.signatures import Checked, SignatureCheck
from reconciler.git.tree_files import TreeFiles
from reconciler.git.tree_reader import TreeReader

REWRITE_DIGITS_MIN = 12
"""Of the commit that an operator accepts: enough to mean one commit."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """`plan` is None when there was no way to make one. With errors among `findings` it must not be carried out.
    `signatures`: the good ones of the commits since the base, newest first; empty when none are asked for."""

    info: CommitInfo
    base: str
    plan: Plan | None
    findings: tuple[Finding, ...]
    signatures: tuple[SignedBy, ...] = ()


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
    rows: Iterable[Row] = (),
    signatures: SignatureCheck | None = None,
) -> Judged:
    """`base`: the applied commit, "" for none. `rows`: this source's documents of the view `resources`.
    `signatures`: None when none are asked for."""
    rows = list(rows)
    found = objects.commit(head)
    info = CommitInfo(head, found.author, found.subject)
    readable = bool(base) and objects.has(base)
    if base and not _accepts_rewrite(source, head) and not (readable and objects.descends(head, base)):
        return Judged(info, base, None, (_rewritten(source, head, base),))
    accepted = _accepts_rewrite(source, head)
    checked = _checked(signatures, objects, base=base if readable else "", head=head, answered_for=accepted)
    if errors(checked.findings):
        return Judged(info, base, None, checked.findings, checked.signatures)
    before = _applied(reader, base if readable else "", rows) if base else None
    try:
        after = reader.read(head)
    except ReadingEnded as ended:
        return Judged(info, base, None, ordered([*checked.findings, ended.finding]), checked.signatures)
    if errors(after.findings):
        return Judged(info, base, None, ordered([*checked.findings, *after.findings]), checked.signatures)
    confirmations = read_confirmations(objects.messages_since(base if readable else "", head))
    planned = plan(
        before,
        after.tree,
        source=source,
        info=info,
        base_commit=base,
        retained=_retained(rows),
        confirmations=confirmations,
    )
    refusals = check(planned, after.tree, source, confirmations)
    envs = {change.resource_id.env for change in planned.changes}
    approved = signatures.missing_for_envs(checked, envs, source.path) if signatures else ()
    findings = ordered([*checked.findings, *approved, *after.findings, *(refusals or planned.findings)])
    return Judged(info, base, planned, findings, checked.signatures)


def _checked(
    signatures: SignatureCheck | None, objects: Objects, *, base: str, head: str, answered_for: bool
) -> Checked:
    if signatures is None:
        return Checked()
    return signatures.check(objects, base=base, head=head, answered_for=answered_for)


def _accepts_rewrite(source: Source, head: str) -> bool:
    return len(source.accepted_rewrite) >= REWRITE_DIGITS_MIN and head.startswith(source.accepted_rewrite)


def rows_of(source: Source, resources: Mapping[str, Row]) -> list[Row]:
    """Of the view `resources`, what the source declared."""
    return [row for row in resources.values() if (row.get("origin") or {}).get("source_id") == source.source_id]


def _retained(rows: Iterable[Row]) -> frozenset[ResourceId]:
    return frozenset(ResourceId.parse(row["resource_id"]) for row in rows if row.get("retained"))


def _applied(reader: TreeReader, base: str, rows: Iterable[Row]) -> Tree:
    """What is applied: from its commit, and from the views where that cannot be read as it was when it was applied (an
    accepted rewrite took its objects away, or the rules have become stricter since)."""
    rows = list(rows)
    if not base:
        return _tree_of_rows(rows)
    try:
        found = reader.read(base)
    except ReadingEnded:
        if not rows:
            raise
        return _tree_of_rows(rows)
    return _tree_of_rows(rows) if rows and errors(found.findings) else found.tree


def _tree_of_rows(rows: Iterable[Row]) -> Tree:
    declared = {}
    for row in rows:
        if not row.get("retained"):
            identity = ResourceId.parse(row["resource_id"])
            origin = Origin(str(row["origin"].get("path", "")), int(row["origin"].get("line", 0)))
            declared[identity] = Resource(identity, row["spec"], origin)
    return Tree(declared)


def _rewritten(source: Source, head: str, base: str) -> Finding:
    return Finding(
        path="",
        line=0,
        column=0,
        pointer="",
        code="history_rewritten",
        message=f"the branch {source.branch} was rewritten: {head[:12]} does not descend from the applied {base[:12]}",
        fix=f"push a commit that descends from {base[:12]};"
        f" or an operator starts the controller with --accepted-rewrite {head}",
    )
