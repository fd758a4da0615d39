"""What a finished plan may not do, whoever made it. Pure, and apart from the planner on purpose.

`reconciler.git.judge` calls `check` on every plan; an error finding refuses the whole commit, and nothing changes.
Unknown is not absent: a tree that is empty all at once is a mistake until somebody shows otherwise. How much may go at
once is the operator's to say (`Source.rules`), never the repository's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from reconciler.core.commands import DeclareResource, RemoveResource, RetainResource
from reconciler.core.cross_checks import Tree
from reconciler.core.findings import Finding, ordered
from reconciler.core.model import Resource
from reconciler.core.planner import Plan
from reconciler.core.revisions import Source
from reconciler.core.trailers import CONFIRM_DELETE, CONFIRM_DELETIONS, Confirmations

_NOTHING = Tree()


def check(
    plan: Plan,
    head: Tree,
    source: Source,
    confirmations: Confirmations,
    base: Tree | None = None,
    held: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Errors only; empty when the plan may be carried out. `base`: what the plan was made from. `held`: apps that it
    must not touch."""
    before = base or _NOTHING
    return ordered(
        [
            *_empty(plan, source),
            *_too_many(plan, source, confirmations),
            *_protected(plan, before),
            *_broken_promises(plan, head, before, confirmations),
            *_touched(plan, held),
        ]
    )


def _empty(plan: Plan, source: Source) -> Iterator[Finding]:
    if plan.base_size and not plan.head_size:
        where = f"the folder {source.path}" if source.path else "the tree"
        yield _refusal(
            "tree_empty",
            f"{where} declares nothing, the commit before declared {plan.base_size} resources; nothing is deleted",
            "restore the manifests; to take everything down, keep one Environment manifest",
        )


def _too_many(plan: Plan, source: Source, confirmations: Confirmations) -> Iterator[Finding]:
    count, rules = len(plan.deletions), source.rules
    many = count > rules.deletions_max and count > rules.deletions_share * plan.base_size
    if many and plan.head_size and count not in confirmations.deletions:
        yield _refusal(
            "too_many_deletions",
            f"the commit deletes {count} of {plan.base_size} resources",
            f"if that is meant, push a commit (it may be empty) that ends with the line: {CONFIRM_DELETIONS}: {count}",
        )


def _protected(plan: Plan, base: Tree) -> Iterator[Finding]:
    """The applied commit decides: a commit that takes the protection away cannot use that itself."""
    for command in plan.commands:
        identity = command.resource.id if isinstance(command, DeclareResource) else command.resource_id
        old = base.resources.get(identity)
        if old is None or not old.marks.protect:
            continue
        if isinstance(command, RemoveResource | RetainResource):
            yield _protection(old, "removes it")
        elif identity.kind == "volume" and command.resource.spec["size_bytes"] < old.spec["size_bytes"]:
            sizes = f"{old.spec['size_bytes'] >> 20}Mi to {command.resource.spec['size_bytes'] >> 20}Mi"
            yield _protection(old, f"makes it smaller, {sizes}")


def _protection(old: Resource, what: str) -> Finding:
    path, line = old.origin.path, old.marks.protect_line or old.origin.line
    message = f"{old.id.short} is protected by the applied commit ({path}:{line}), and this commit {what}"
    fix = (
        f"restore it; if that is meant, push a commit that only takes the line protect: true out at {path}:{line}, and"
        " what it forbids once that one is applied"
    )
    return Finding(path, line, 0, "/metadata/protect", "protected", message, fix)


def _broken_promises(plan: Plan, head: Tree, base: Tree, confirmations: Confirmations) -> Iterator[Finding]:
    """What no planner of ours does; checked all the same, because data is lost where it is wrong."""
    for command in plan.commands:
        if isinstance(command, RemoveResource):
            identity = command.resource_id
            if identity in head.resources:
                yield _refusal("plan_unsound", f"{identity.short} is declared and would be deleted", "report this")
            old = base.resources.get(identity)
            confirmed = identity.short in confirmations.deletes or (old is not None and old.marks.removal)
            if identity.kind == "volume" and not confirmed:
                fix = f"confirm it with the line: {CONFIRM_DELETE}: {identity.short}"
                yield _refusal("plan_unsound", f"{identity.short} would be deleted without a confirmation", fix)
        elif isinstance(command, DeclareResource) and command.resource.id not in head.resources:
            yield _refusal("plan_unsound", f"{command.resource.id.short} is not declared in the commit", "report this")


def _touched(plan: Plan, held: Collection[str]) -> Iterator[Finding]:
    for command in plan.commands if held else ():
        identity = command.resource.id if isinstance(command, DeclareResource) else command.resource_id
        if str(identity.owner) in held:
            yield _refusal("plan_unsound", f"{identity.short} is held back and would be changed", "report this")


def _refusal(code: str, message: str, fix: str) -> Finding:
    return Finding("", 0, 0, "", code, message, fix)
