"""Commits, read raw by id, and what the signature of each is worth. Called by `signatures` for a range of them.

SSH signatures are verified in process (some 0.1 ms each), GPG ones by gpgv (some 4 ms each, a few at a time). A commit
is dropped from memory once it was looked at, so a thousand of the largest take no more than AT_A_TIME of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from reconciler.core.signing import openpgp, verdicts
from reconciler.core.signing.approvals import approves
from reconciler.core.signing.armour import SignatureUnreadable
from reconciler.core.signing.commit_object import CommitMalformed, RawCommit, read_commit
from reconciler.core.signing.verdicts import Fault, SignedBy
from reconciler.git.objects import Objects, ObjectTooLarge
from reconciler.git.signers_file import Trust

AT_A_TIME = 32
"""Each has at most 1 MiB."""
GPG_PROCESSES_MAX = 4


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What is kept of a commit. Of one that could not be read in git's own form, `tree` is "" and the rest empty."""

    commit: str
    verdict: SignedBy | Fault
    tree: str = ""
    parents: tuple[str, ...] = ()
    approves: tuple[str, ...] = ()


def look_at(objects: Objects, trust: Trust, now: datetime, ids: Sequence[str]) -> list[LookedAt]:
    """In the order of `ids`. `Transient` when an object is missing."""
    found: list[LookedAt] = []
    with ThreadPoolExecutor(min(GPG_PROCESSES_MAX, 2 * (os.cpu_count() or 1)), "gpgv") as pool:
        for start in range(0, len(ids), AT_A_TIME):
            begun = [*_begin(objects, trust, now, ids[start : start + AT_A_TIME], pool)]
            found.extend(each.result() if isinstance(each, Future) else each for each in begun)
    return found


def _begin(
    objects: Objects, trust: Trust, now: datetime, ids: Sequence[str], pool: Executor
) -> Iterator[LookedAt | Future[LookedAt]]:
    for commit in ids:
        try:
            raw = read_commit(objects.raw_commit(commit))
        except (CommitMalformed, ObjectTooLarge) as error:
            yield LookedAt(commit, verdicts.malformed_fault(str(error)))
            continue
        if fault := verdicts.unsigned_fault(raw, commit):
            yield _kept(commit, raw, fault)
        elif raw.signature.startswith(b"-----BEGIN SSH"):
            yield _kept(commit, raw, verdicts.ssh_verdict(trust.policy, raw, commit, now))
        else:
            yield pool.submit(_gpg, trust, now, commit, raw)


def _gpg(trust: Trust, now: datetime, commit: str, raw: RawCommit) -> LookedAt:
    try:
        packet = openpgp.read_packet(raw.signature)
    except SignatureUnreadable as error:
        return _kept(commit, raw, verdicts.invalid_fault(str(error)))
    if trust.keyring is None:
        return _kept(commit, raw, verdicts.unknown_fault("that made its GPG signature"))
    answer = trust.keyring.verify(packet, raw.payload)
    return _kept(commit, raw, verdicts.gpg_verdict(trust.policy, answer, raw, commit, now))


def _kept(commit: str, raw: RawCommit, verdict: SignedBy | Fault) -> LookedAt:
    return LookedAt(commit, verdict, raw.tree, raw.parents, approves(raw.message))
