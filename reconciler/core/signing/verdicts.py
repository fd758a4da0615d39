"""Whether a commit is signed by somebody who may sign it now.

Called by `reconciler.git.signatures` for each commit. `now` decides about validity, never a date of the commit or of
its signature: whoever holds a stolen key writes any date. So a key's end refuses every commit that is not applied yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from reconciler.core.signing import ssh
from reconciler.core.signing.armour import SignatureUnreadable
from reconciler.core.signing.commit_object import RawCommit
from reconciler.core.signing.openpgp import GpgAnswer
from reconciler.core.signing.policy import Key, Policy
from reconciler.core.trailers import SIGNED_FOR, values

_SIGN_AGAIN = "sign it again (git commit --amend -S --no-edit) and push; what follows it too (git rebase --exec)"


@dataclass(frozen=True, slots=True)
class SignedBy:
    """A commit and the key that signed it, found to be good. `machine`: no person stands behind it."""

    commit: str
    signer: str
    kind: Literal["ssh", "gpg"]
    fingerprint: str
    machine: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a commit does not count as signed. `code`: as in the finding that it becomes."""

    code: str
    why: str
    fix: str


def unsigned_fault(raw: RawCommit, commit: str) -> Fault | None:
    """What can be said before any key is looked at."""
    expected = "gpgsig" if len(commit) == 40 else "gpgsig-sha256"
    if not raw.signature:
        return Fault("signature_missing", "it is not signed", _SIGN_AGAIN)
    if raw.signature_header != expected:
        return Fault("signature_invalid", f"its signature is in {raw.signature_header}, not in {expected}", _SIGN_AGAIN)
    return None


def ssh_verdict(policy: Policy, raw: RawCommit, commit: str, now: datetime) -> SignedBy | Fault:
    try:
        signature = ssh.read_signature(raw.signature)
        good = ssh.holds(signature, raw.payload)
    except SignatureUnreadable as error:
        return invalid_fault(str(error))
    if not good:
        return invalid_fault("its signature is not one of these very bytes")
    return _known(policy, ssh.fingerprint(signature.key), raw, commit, now)


def gpg_verdict(policy: Policy, answer: GpgAnswer, raw: RawCommit, commit: str, now: datetime) -> SignedBy | Fault:
    match answer.outcome:
        case "good":
            return _known(policy, answer.key, raw, commit, now)
        case "unknown":
            return unknown_fault(answer.key)
        case "revoked":
            return Fault("signer_revoked", f"the GPG key {answer.key} is revoked", _SIGN_AGAIN)
        case "expired":
            fix = "renew the key and give the operator its new public part"
            return Fault("signer_expired", f"the GPG key {answer.key} has expired", fix)
        case "bad":
            return invalid_fault("its signature is not one of these very bytes")


def invalid_fault(why: str) -> Fault:
    return Fault("signature_invalid", why, _SIGN_AGAIN)


def malformed_fault(why: str) -> Fault:
    return Fault("commit_malformed", why, "make the commit anew with git")


def _known(policy: Policy, fingerprint: str, raw: RawCommit, commit: str, now: datetime) -> SignedBy | Fault:
    key = policy.keys.get(fingerprint)
    if key is None:
        return unknown_fault(fingerprint)
    signer = key.signer
    if fault := _validity(key, now):
        return fault
    if raw.committer_email.lower() not in signer.emails:
        why = f"it names the committer {_shown(raw.committer_email)}, which is no address of the signer {signer.name}"
        return Fault("signer_mismatch", why, "commit under one's own address, or have the operator add the address")
    if policy.signed_for and policy.signed_for not in values(raw.message, SIGNED_FOR):
        why = f"its message does not say that it is meant for {policy.signed_for}"
        return Fault("signed_for_missing", why, f"end the message with the line: {SIGNED_FOR}: {policy.signed_for}")
    return SignedBy(commit, signer.name, key.kind, fingerprint, signer.machine)


def _validity(key: Key, now: datetime) -> Fault | None:
    who = f"the key {key.fingerprint} of {key.signer.name}"
    if key.valid_before is not None and now >= key.valid_before:
        return Fault("signer_revoked", f"{who} is not valid since {key.valid_before.isoformat()}", _SIGN_AGAIN)
    if key.valid_after is not None and now < key.valid_after:
        return Fault("signer_not_yet_valid", f"{who} is valid from {key.valid_after.isoformat()} on", "wait until then")
    return None


def unknown_fault(fingerprint: str) -> Fault:
    fix = "sign with a known key, or have the operator add this one to the signers file"
    return Fault("signer_unknown", f"the key {fingerprint} is no signer's", fix)


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:100])
