"""Where one signer is not enough: who vouches for what a commit range changes.

Called by `reconciler.git.signatures`. docs/decisions/0015-signatures.md says why it is defined like this:

    A signed commit vouches for a path when the path is in it exactly as in the head (or absent in both), and
    - it wrote that: none of its parents has the path in this form; or
    - it approves that: its message has the trailer Trueup-Approve with a pattern that matches the path.

So a merge or a pull alone approves nothing, and an approval of other bytes than those of the head does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.core.findings import Finding
from reconciler.core.signing import globs
from reconciler.core.signing.policy import Policy
from reconciler.core.trailers import APPROVE, values

APPROVALS_MAX = 20


def approves(message: str) -> tuple[str, ...]:
    """The patterns of a commit's trailers Trueup-Approve."""
    return tuple(each for each in values(message, APPROVE) if not globs.complaint(each))[:APPROVALS_MAX]


@dataclass(frozen=True, slots=True)
class Approvals:
    """`changed`: every path that differs between the applied tree and the head. `vouchers`: for each of them the names
    of the signers who vouch for it, machines left out."""

    policy: Policy = field(default_factory=Policy)
    changed: frozenset[str] = frozenset()
    vouchers: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def missing_for_paths(self) -> tuple[Finding, ...]:
        needs = {path: self.policy.signers_for_path(path) for path in self.changed}
        return self._missing(needs, "the operator's rule for this path")

    def missing_for_envs(self, envs: Iterable[str], folder: str) -> tuple[Finding, ...]:
        """`envs`: those whose resources the plan changes; `folder`: where the source's manifests are. What a file
        declares does not depend on its path, so every changed file below the folder has to be vouched for."""
        touched = frozenset(envs)
        need = self.policy.signers_for_envs(touched)
        inside = (path for path in self.changed if not folder or path.startswith(f"{folder.strip('/')}/"))
        return self._missing(dict.fromkeys(inside, need), f"the operator's rule for {', '.join(sorted(touched))}")

    def _missing(self, needs: Mapping[str, int], rule: str) -> tuple[Finding, ...]:
        found = []
        for path, need in needs.items():
            have = sorted(self.vouchers.get(path, ()))
            if len(have) < need:
                who = f"{len(have)} ({', '.join(have)})" if have else "none"
                found.append(_too_few(path, f"{rule} needs {need} signers who wrote or approved it; it has {who}"))
        return tuple(found)


def vouched(
    changed: frozenset[str],
    differs: frozenset[str],
    parents_differ: Iterable[frozenset[str]],
    patterns: tuple[str, ...],
) -> frozenset[str]:
    """Which of the `changed` paths one commit vouches for. `differs`: those that are otherwise in the commit than in
    the head; `parents_differ`: the same of each of its parents, of the empty tree when it has none."""
    same = changed - differs
    wrote = same.intersection(*parents_differ)
    approved = {path for path in same - wrote if any(globs.matches(each, path) for each in patterns)}
    return wrote | approved


_NOT_SQUASHED = "a squash or rebase by the forge keeps one signature only, so merge with a merge commit"


def _too_few(path: str, why: str) -> Finding:
    """Paths are bytes to Git; what is no text in them is kept apart by surrogates, and is shown as escapes."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    approve = f'git commit -S --allow-empty -m "Approve" -m "{APPROVE}: {shown}"'
    fix = f"another signer reviews it and pushes: {approve}; {_NOT_SQUASHED}"
    return Finding(shown, 0, 0, "", "signers_too_few", why, fix)
