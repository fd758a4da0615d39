"""What a finished plan may not do, whoever made it. Pure, and apart from the planner on purpose.

`reconciler.tasks.git_sync` and `trueup plan` call `check` on every plan; an error finding refuses the whole commit, and
nothing changes. Unknown is not absent: a tree that is empty all at once is a mistake until somebody shows otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.core.commands import DeclareResource, RemoveResource
from reconciler.core.cross_checks import Tree
from reconciler.core.findings import Finding, ordered
from reconciler.core.planner import Plan
from reconciler.core.revisions import Source
from reconciler.core.trailers import CONFIRM_DELETE, CONFIRM_DELETIONS, Confirmations

DELETIONS_FREE_MAX = 10
DELETIONS_FREE_SHARE = 0.20
"""A commit that deletes more than both of these has to say how many."""


def check(plan: Plan, head: Tree, source: Source, confirmations: Confirmations) -> tuple[Finding, ...]:
    """Errors only; empty when the plan may be carried out."""
    return ordered(
        [*_empty(plan, source), *_too_many(plan, confirmations), *_broken_promises(plan, head, confirmations)]
    )


def _empty(plan: Plan, source: Source) -> Iterator[Finding]:
    if plan.base_size and not plan.head_size:
        where = f"the folder {source.path}" if source.path else "the tree"
        yield _refusal(
            "tree_empty",
            f"{where} declares nothing, the commit before declared {plan.base_size} resources; nothing is deleted",
            "restore the manifests; to take everything down, keep one Environment manifest",
        )


def _too_many(plan: Plan, confirmations: Confirmations) -> Iterator[Finding]:
    count = len(plan.deletions)
    many = count > DELETIONS_FREE_MAX and count > DELETIONS_FREE_SHARE * plan.base_size
    if many and plan.head_size and count not in confirmations.deletions:
        yield _refusal(
            "too_many_deletions",
            f"the commit deletes {count} of {plan.base_size} resources",
            f"if that is meant, push a commit (it may be empty) that ends with the line: {CONFIRM_DELETIONS}: {count}",
        )


def _broken_promises(plan: Plan, head: Tree, confirmations: Confirmations) -> Iterator[Finding]:
    """What no planner of ours does; checked all the same, because data is lost where it is wrong."""
    for command in plan.commands:
        if isinstance(command, RemoveResource):
            identity = command.resource_id
            if identity in head.resources:
                yield _refusal("plan_unsound", f"{identity.short} is declared and would be deleted", "report this")
            if identity.kind == "volume" and identity.short not in confirmations.deletes:
                fix = f"confirm it with the line: {CONFIRM_DELETE}: {identity.short}"
                yield _refusal("plan_unsound", f"{identity.short} would be deleted without a confirmation", fix)
        elif isinstance(command, DeclareResource) and command.resource.id not in head.resources:
            yield _refusal("plan_unsound", f"{command.resource.id.short} is not declared in the commit", "report this")


def _refusal(code: str, message: str, fix: str) -> Finding:
    return Finding("", 0, 0, "", code, message, fix)
