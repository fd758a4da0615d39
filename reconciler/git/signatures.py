"""The signatures of a range of commits, checked before anything that the commits hold is parsed.

`judge` calls `SignatureCheck.check`, then `missing_for_envs` once it has a plan. The range is every commit that the
head has and the applied commit has not, merged branches included. With nothing applied it is the head alone, unless
the policy pins a root: then all that came after the root. docs/SIGNERS.md is for operators;
docs/decisions/0015-signatures.md says why.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kit.errors import Transient
from reconciler.core.findings import Finding, ordered
from reconciler.core.signing.approvals import Approvals, vouched
from reconciler.core.signing.policy import Policy
from reconciler.core.signing.verdicts import Fault, SignedBy
from reconciler.git.commit_signatures import LookedAt, look_at
from reconciler.git.objects import Objects, ObjectTooLarge
from reconciler.git.signers_file import Trust
from reconciler.git.tree_diff import DiffRefused, TreeDiff

FAULTS_SHOWN_MAX = 100


@dataclass(frozen=True, slots=True)
class Checked:
    """`signatures`: of every commit with a good one, newest first. With errors among `findings` the head must not be
    applied. `approvals` has still to be asked about the environments that the plan changes."""

    findings: tuple[Finding, ...] = ()
    signatures: tuple[SignedBy, ...] = ()
    approvals: Approvals = field(default_factory=Approvals)


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """`now`: the time at which keys must be valid. Blocks; `Transient` when an object is missing."""

    trust: Trust
    now: datetime

    def check(self, objects: Objects, *, base: str, head: str, answered_for: bool = False) -> Checked:
        """`base`: the applied commit if it can be read, else "". `answered_for`: an operator let this very head replace
        the history, and so stands for the second signer too."""
        policy = self.trust.policy
        if policy.require == "off":
            return Checked()
        since = base or policy.root
        if not base and since and not (objects.has(since) and objects.descends(head, since)):
            return Checked(self._weighed([_without_root(policy, head)]))
        ids = objects.commits_since(since, head, policy.commits_max + 1) or [head]
        if len(ids) > policy.commits_max:
            return Checked(self._weighed([_too_many(policy, since, head)]))
        commits = look_at(objects, self.trust, self.now, ids)
        if since:
            _check_complete(objects, commits)
        signatures = tuple(each.verdict for each in commits if isinstance(each.verdict, SignedBy))
        findings = self._faults(objects, since, head, commits)
        if findings or not policy.rules or not since or answered_for:
            return Checked(self._weighed(findings), signatures)
        try:
            approvals = _approvals(objects, policy, since, head, commits)
        except DiffRefused as error:
            return Checked(self._weighed([_not_comparable(since, head, error)]), signatures)
        return Checked(self._weighed(approvals.missing_for_paths()), signatures, approvals)

    def missing_for_envs(self, checked: Checked, envs: Iterable[str], folder: str) -> tuple[Finding, ...]:
        return self._weighed(checked.approvals.missing_for_envs(envs, folder))

    def _faults(self, objects: Objects, since: str, head: str, commits: Sequence[LookedAt]) -> list[Finding]:
        policy = self.trust.policy
        found: list[Finding] = []
        for each in commits:
            required = (policy.require != "head" or each.commit == head) and each.commit not in policy.accepted
            if required and isinstance(each.verdict, Fault) and _is_new(objects, since, head, each.commit):
                found.append(_fault(objects, each.commit, each.verdict))
            if len(found) >= FAULTS_SHOWN_MAX:
                break
        return found

    def _weighed(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        if self.trust.policy.require != "warn":
            return ordered(findings)
        return ordered(dataclasses.replace(each, severity="warning") for each in findings)


def _approvals(objects: Objects, policy: Policy, since: str, head: str, commits: Sequence[LookedAt]) -> Approvals:
    diff = TreeDiff(objects)
    head_tree = objects.commit(head).tree
    changed = diff.paths(objects.commit(since).tree, head_tree)

    @functools.cache
    def differs(tree: str) -> frozenset[str]:
        return diff.paths(tree, head_tree, changed)

    vouchers: dict[str, frozenset[str]] = {}
    for each in commits:
        if not isinstance(each.verdict, SignedBy) or each.verdict.machine:
            continue
        trees = [objects.commit(parent).tree for parent in each.parents] or [""]
        paths = vouched(changed, differs(each.tree), map(differs, trees), each.approves)
        if paths and _is_new(objects, since, head, each.commit):
            for path in paths:
                vouchers[path] = vouchers.get(path, frozenset()) | {each.verdict.signer}
    return Approvals(policy, changed, vouchers)


def _is_new(objects: Objects, since: str, head: str, commit: str) -> bool:
    """Not part of what is applied: wrong dates can lead such commits into the range, and they are settled."""
    return not since or commit == head or not objects.descends(since, commit)


def _check_complete(objects: Objects, commits: Sequence[LookedAt]) -> None:
    """A shallow clone ends without a word; what was not seen was not checked."""
    seen = {each.commit for each in commits}
    for each in commits:
        for parent in each.parents:
            if parent not in seen and not objects.has(parent):
                why = f"its parent {parent} is not in the clone"
                fix = "fetch the whole history (git fetch --unshallow)"
                raise Transient(f"check the signatures up to {each.commit}", why, fix=fix, code="source_unreadable")


def _fault(objects: Objects, commit: str, fault: Fault) -> Finding:
    try:
        found = objects.commit(commit)
        named = f"the commit {commit[:12]} ({found.subject}) by {found.author}"
    except ObjectTooLarge:
        named = f"the commit {commit[:12]}"
    return _finding(fault.code, f"{named}: {fault.why}", fault.fix)


def _without_root(policy: Policy, head: str) -> Finding:
    why = f"{head[:12]} does not descend from {policy.root[:12]}, the root in the signers file"
    return _finding("root_missing", why, "look at the repository's address and branch; or pin another root")


def _too_many(policy: Policy, since: str, head: str) -> Finding:
    why = f"more than {policy.commits_max} commits lie between {since[:12]} and {head[:12]}, too many to check"
    return _finding("too_many_commits", why, "raise commits_max in the signers file, if that is meant")


def _not_comparable(since: str, head: str, error: DiffRefused) -> Finding:
    why = f"what {head[:12]} changes since {since[:12]} cannot be held against the rules: {error}"
    return _finding("not_comparable", why, "push the change in smaller parts")


def _finding(code: str, message: str, fix: str) -> Finding:
    return Finding("", 0, 0, "", code, message, fix)
