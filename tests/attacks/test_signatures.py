"""Commits that want to count as signed and must not: nothing of them is parsed, planned or applied."""

from __future__ import annotations

import base64
import dataclasses
import re
from datetime import timedelta
from pathlib import Path

import pytest

from kit.errors import Transient
from reconciler.git.signers_file import SignersFile
from tests.contracts.test_ssh_signatures import sign
from tests.integration.git.people import alice, bob, carol, folder, gpg, mallory, repository
from tests.integration.git.platform import Platform, sync_for
from tests.integration.git.repository import SITE
from tests.integration.git.signing import NOBODY, NOW, Gpg, Person, SignedRepository, codes, judged, signers_file
from tests.unit.planner.trees import app, route

__all__ = ["alice", "bob", "carol", "folder", "gpg", "mallory", "repository"]
CHANGE = {"apps/site/route.yaml": route("r", "other")}


def gpgsig(raw: bytes) -> bytes:
    """The whole signature header."""
    found = re.search(rb"^gpgsig [^\n]*\n(?: [^\n]*\n)+", raw, re.MULTILINE)
    assert found
    return found[0]


def refused(repository: SignedRepository, signers: Path, head: str, base: str) -> list[str]:
    try:
        found = judged(repository, signers, head, base)
    except Transient as error:  # libgit2 itself takes it for damaged: the source is unreadable, and nothing changes
        return [error.code]
    assert found.plan is None, "what is not signed well is not even read"
    return codes(found)


def test_an_unsigned_commit(repository: SignedRepository, folder: Path, alice: Person) -> None:
    base = repository.head()
    head = repository.signed(NOBODY, CHANGE, message="Sneak it in")
    found = judged(repository, signers_file(folder, alice), head, base)
    (finding,) = found.findings
    assert finding.code == "signature_missing" and found.plan is None
    assert (
        head[:12] in finding.message and "Sneak it in" in finding.message and "Dev <dev@example.com>" in finding.message
    )
    assert "git commit --amend -S" in finding.fix


def test_an_unknown_key(repository: SignedRepository, folder: Path, alice: Person, mallory: Person) -> None:
    base = repository.head()
    assert refused(repository, signers_file(folder, alice), repository.signed(mallory, CHANGE), base) == [
        "signer_unknown"
    ]


def test_an_unknown_gpg_key(repository: SignedRepository, folder: Path, alice: Person, carol: Person, gpg: Gpg) -> None:
    base, head = repository.head(), repository.signed(carol, CHANGE)
    dave = gpg.person(folder, "dave")
    for signers in (signers_file(folder, alice), signers_file(folder, alice, dave)):
        assert refused(repository, signers, head, base) == ["signer_unknown"]


def test_somebody_elses_name_on_it(repository: SignedRepository, folder: Path, alice: Person, bob: Person) -> None:
    """Bob's key is good for Bob; a commit that says Alice made it is not his to sign."""
    base = repository.head()
    disguised = dataclasses.replace(bob, name="alice")
    head = repository.signed(disguised, CHANGE)
    assert refused(repository, signers_file(folder, alice, bob), head, base) == ["signer_mismatch"]


def test_a_key_that_ended_refuses_what_is_not_applied_yet(
    repository: SignedRepository, folder: Path, alice: Person
) -> None:
    """Whatever date the commit claims: the thief writes any."""
    base = repository.head()
    head = repository.signed(
        dataclasses.replace(alice, environment=(("GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z"),)), CHANGE
    )
    ended = signers_file(folder, alice, keys={"alice": {"valid_before": NOW}})
    assert refused(repository, ended, head, base) == ["signer_revoked"]
    assert codes(judged(repository, ended, head, base, now=NOW - timedelta(seconds=1))) == []


def test_what_was_applied_stays_when_its_key_ends(
    repository: SignedRepository, folder: Path, alice: Person, bob: Person
) -> None:
    base = repository.signed(alice, CHANGE)
    head = repository.signed(bob, {"apps/site/route.yaml": route("r", "third")})
    ended = signers_file(folder, alice, bob, keys={"alice": {"valid_before": NOW}})
    assert codes(judged(repository, ended, head, base)) == []


def test_a_key_that_is_not_valid_yet(repository: SignedRepository, folder: Path, alice: Person) -> None:
    base, head = repository.head(), repository.signed(alice, CHANGE)
    early = signers_file(folder, alice, keys={"alice": {"valid_after": NOW + timedelta(days=1)}})
    assert refused(repository, early, head, base) == ["signer_not_yet_valid"]


def test_a_revoked_gpg_key(repository: SignedRepository, folder: Path, gpg: Gpg) -> None:
    """gpgv ends with 0 for it; the status decides."""
    erin = gpg.person(folder, "erin")
    base, head = repository.head(), repository.signed(erin, CHANGE)
    signers = signers_file(folder, erin)
    assert codes(judged(repository, signers, head, base)) == []
    gpg.revoke(folder, erin.key["gpg"])
    assert refused(repository, signers, head, base) == ["signer_revoked"]


def test_an_expired_gpg_key(repository: SignedRepository, folder: Path, gpg: Gpg) -> None:
    past = ("--faked-system-time", "20200101T000000")
    frank = gpg.person(folder, "frank", *past, expire="1y")
    base = repository.head()
    payload = repository.raw(repository.signed(NOBODY, CHANGE)).replace(b"dev@", b"frank@")
    armour = gpg.run("--faked-system-time", "20200601T000000", "-bsa", "-u", frank.email, stdin=payload).encode()
    head = repository.write_commit(with_signature(payload, armour))
    assert refused(repository, signers_file(folder, frank), head, base) == ["signer_expired"]


def with_signature(payload: bytes, armour: bytes, header: bytes = b"gpgsig") -> bytes:
    """As git writes it: behind all other headers."""
    head, _, message = payload.partition(b"\n\n")
    return head + b"\n" + header + b" " + armour.strip().replace(b"\n", b"\n ") + b"\n\n" + message


@pytest.mark.parametrize("signer", ["alice", "carol"])
@pytest.mark.parametrize("part", [rb"tree [0-9a-f]{40}", rb"parent [0-9a-f]{40}", rb"author [A-Z]", rb"\n\nchange"])
def test_what_was_signed_is_changed(
    repository: SignedRepository, folder: Path, alice: Person, carol: Person, signer: str, part: bytes
) -> None:
    base = repository.head()
    raw = repository.raw(repository.signed({"alice": alice, "carol": carol}[signer], CHANGE))
    other = {b"tree": repository.git("rev-parse", "HEAD~1^{tree}"), b"pare": repository.head()}.get(part[:4], "X")
    found = re.search(part, raw)
    assert found
    changed = raw.replace(found[0], found[0][: -len(other)] + other.encode(), 1)
    assert changed != raw
    head = repository.write_commit(changed)
    assert refused(repository, signers_file(folder, alice, carol), head, base)[-1] == "signature_invalid"


def test_a_signature_of_another_commit(repository: SignedRepository, folder: Path, alice: Person) -> None:
    base = repository.head()
    good = repository.raw(repository.signed(alice, CHANGE))
    repository.git("reset", "-q", "--hard", base)
    plain = repository.raw(repository.signed(NOBODY, {"apps/site/app.yaml": app("evil")}))
    stolen = gpgsig(good)
    head, _, message = plain.partition(b"\n\n")
    assert refused(
        repository, signers_file(folder, alice), repository.write_commit(head + b"\n" + stolen + b"\n" + message), base
    ) == ["signature_invalid"]


@pytest.mark.parametrize("first", ["gpgsig", "gpgsig-sha256"])
def test_two_signature_headers(
    repository: SignedRepository, folder: Path, alice: Person, mallory: Person, first: str
) -> None:
    """`git verify-commit` takes such a commit by one of the two."""
    base = repository.head()
    raw = repository.raw(repository.signed(mallory, CHANGE))
    repository.git("reset", "-q", "--hard", base)
    good = gpgsig(repository.raw(repository.signed(alice)))
    extra = first.encode() + good[len(b"gpgsig") :]
    for made in (raw.replace(b"gpgsig ", extra + b"gpgsig ", 1), raw.replace(gpgsig(raw), gpgsig(raw) + extra)):
        assert refused(repository, signers_file(folder, alice), repository.write_commit(made), base) == [
            "commit_malformed"
        ]


def test_a_signature_in_the_header_of_another_kind_of_repository(
    repository: SignedRepository, folder: Path, alice: Person
) -> None:
    base = repository.head()
    raw = repository.raw(repository.signed(alice, CHANGE)).replace(b"gpgsig ", b"gpgsig-sha256 ", 1)
    assert refused(repository, signers_file(folder, alice), repository.write_commit(raw), base) == ["signature_invalid"]


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("before the author", "source_unreadable"),
        ("in the message", "signature_missing"),
        ("in a mergetag", "signature_missing"),
        ("below an unknown header", "commit_malformed"),
        ("with something behind it", "signature_invalid"),
        ("twice in one header", "signature_invalid"),
        ("with a NUL byte in the message", "commit_malformed"),
        ("much too long", "commit_malformed"),
        ("with a second tree", "source_unreadable"),
        ("with a parent behind the author", "source_unreadable"),
        ("in upper case", "commit_malformed"),
    ],
)
def test_a_signature_where_none_belongs(
    repository: SignedRepository, folder: Path, alice: Person, what: str, code: str
) -> None:
    base = repository.head()
    raw = repository.raw(repository.signed(alice, CHANGE))
    header = gpgsig(raw)
    without = raw.replace(header, b"")
    value = header[len(b"gpgsig ") :]
    made = {
        "before the author": without.replace(b"author ", header + b"author ", 1),
        "in the message": without + b"\n" + header,
        "in a mergetag": without.replace(b"\n\n", b"\nmergetag object 1\n " + header[:-1] + b"\n\n", 1),
        "below an unknown header": raw.replace(header, b"x-note 1\n" + header),
        "with something behind it": raw.replace(
            b"-----END SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n more\n"
        ),
        "twice in one header": raw.replace(header, header + b" " + value),
        "with a NUL byte in the message": raw + b"\0hidden",
        "much too long": raw.replace(header, header[:-1] + b"\n" + b" " + b"A" * 70 + b"\n" + b" A\n" * 10_000),
        "with a second tree": raw.replace(b"parent ", b"tree " + b"0" * 40 + b"\nparent ", 1),
        "with a parent behind the author": raw.replace(b"committer ", b"parent " + base.encode() + b"\ncommitter ", 1),
        "in upper case": raw.replace(b"gpgsig ", b"GPGSIG ", 1),
    }[what]
    head = repository.write_commit(made)
    assert refused(repository, signers_file(folder, alice), head, base) == [code]


def test_a_commit_object_beyond_its_bound(repository: SignedRepository, folder: Path, alice: Person) -> None:
    """In the middle of the range; such a head is not even read."""
    base = repository.head()
    raw = repository.raw(repository.signed(alice, CHANGE))
    repository.write_commit(raw + b"x" * (1 << 20))
    assert refused(repository, signers_file(folder, alice), repository.signed(alice), base) == ["commit_malformed"]


def test_the_namespace_is_git(repository: SignedRepository, folder: Path, alice: Person) -> None:
    """A signature that Alice made of a file must not become one of a commit."""
    base = repository.head()
    payload = repository.raw(repository.signed(NOBODY, CHANGE)).replace(b"dev@", b"alice@")
    key = Path(alice.options[-1].partition("=")[2])
    signers = signers_file(folder, alice)
    for namespace, expected in (("file", ["signature_invalid"]), ("git", [])):
        head = repository.write_commit(with_signature(payload, sign(key, payload, namespace)))
        assert codes(judged(repository, signers, head, base)) == expected


def test_a_gpg_signature_of_several_packets(repository: SignedRepository, folder: Path, carol: Person) -> None:
    """Two signatures in one armour, or a compressed packet: gpgv takes streams, we take one signature."""
    base = repository.head()
    raw = repository.raw(repository.signed(carol, CHANGE))
    lines = gpgsig(raw).decode().split("\n ")
    packet = base64.b64decode("".join(lines[2:-1][: -1 if lines[-2].startswith("=") else None]))
    for body in (packet + packet, b"\xa3" + b"\x01" + packet, packet[:-1]):
        armour = b"-----BEGIN PGP SIGNATURE-----\n\n" + base64.encodebytes(body) + b"-----END PGP SIGNATURE-----"
        made = raw.replace(gpgsig(raw), b"gpgsig " + armour.replace(b"\n", b"\n ") + b"\n")
        head = repository.write_commit(made)
        assert refused(repository, signers_file(folder, carol), head, base) == ["signature_invalid"]


def test_a_gpg_signature_with_a_broken_hash(
    repository: SignedRepository, folder: Path, carol: Person, gpg: Gpg
) -> None:
    base = repository.head()
    payload = repository.raw(repository.signed(NOBODY, CHANGE)).replace(b"dev@", b"carol@")
    for digest, expected in (("SHA1", ["signature_invalid"]), ("SHA256", [])):
        armour = gpg.run("--digest-algo", digest, "-bsa", "-u", carol.email, stdin=payload).encode()
        head = repository.write_commit(with_signature(payload, armour))
        assert codes(judged(repository, signers_file(folder, carol), head, base)) == expected


def test_a_signed_merge_hides_no_unsigned_branch(repository: SignedRepository, folder: Path, alice: Person) -> None:
    base = repository.head()
    repository.git("checkout", "-q", "-b", "side")
    hidden = repository.signed(NOBODY, CHANGE, message="hidden")
    repository.signed(alice, message="signed, on top of it")
    repository.git("checkout", "-q", "main")
    head = repository.merge(alice, "side")
    found = judged(repository, signers_file(folder, alice), head, base)
    assert codes(found) == ["signature_missing"] and hidden[:12] in found.findings[0].message
    assert codes(judged(repository, signers_file(folder, alice, require="head"), head, base)) == []


def test_an_old_signed_head_is_refused(repository: SignedRepository, folder: Path, alice: Person) -> None:
    """Its signature is as good as ever; the applied commit only moves to what descends from it."""
    repository.signed(alice)
    old = repository.signed(alice, CHANGE)
    base = repository.signed(alice, {"apps/site/route.yaml": route("r", "newer")})
    assert refused(repository, signers_file(folder, alice), old, base) == ["history_rewritten"]


def test_a_signed_commit_of_another_repository(
    repository: SignedRepository, folder: Path, alice: Person, tmp_path: Path
) -> None:
    """A signature names no repository. With a root, or a trailer, the first adoption is bound to this one."""
    root = repository.head()
    other = SignedRepository(tmp_path / "other")
    other.signed(alice, {**SITE, "README": "another root"})
    elsewhere = other.signed(alice, CHANGE)
    assert codes(judged(other, signers_file(folder, alice), elsewhere)) == []
    assert codes(judged(other, signers_file(folder, alice, root=root), elsewhere)) == ["root_missing"]
    bound = signers_file(folder, alice, signed_for="fleet")
    assert codes(judged(other, bound, elsewhere)) == ["signed_for_missing"]
    meant = repository.signed(alice, message="change\n\nTrueup-Signed-For: fleet")
    assert codes(judged(repository, bound, meant, root)) == []


def test_a_flood_of_commits_is_bounded(repository: SignedRepository, folder: Path, alice: Person) -> None:
    base = repository.head()
    for _ in range(4):
        head = repository.signed(alice)
    assert refused(repository, signers_file(folder, alice, commits_max=3), head, base) == ["too_many_commits"]
    assert codes(judged(repository, signers_file(folder, alice, commits_max=4), head, base)) == []


async def test_nothing_changes_and_the_next_good_commit_is_applied(
    repository: SignedRepository, folder: Path, alice: Person, tmp_path: Path
) -> None:
    """End to end: refused whole, said once, and mended without an operator by leaving the bad commit out."""
    good = repository.signed(alice)
    platform = Platform()
    sync = sync_for(platform, tmp_path / "state", str(repository.path))
    sync.judging.signers = SignersFile(signers_file(folder, alice))
    assert (await sync.step()).result == "applied"
    before = platform.declared()
    repository.signed(NOBODY, {"apps/site/app.yaml": app("evil")})
    assert (await sync.step()).result == "refused"
    assert (await sync.step()).result == "unchanged"
    assert len(platform.refused) == 1 and platform.declared() == before
    repository.git("reset", "-q", "--hard", good)
    repository.signed(alice, CHANGE)
    assert (await sync.step()).result == "applied"
    repository.signed(alice, {"apps/site/route.yaml": route("r", "third")})
    signers_file(folder, alice, keys={"alice": {"valid_before": NOW.replace(year=2001)}})
    assert (await sync.step()).result == "refused", "the file is read anew, without a restart"
    assert {each.code for each in platform.refused[-1].findings} == {"signer_revoked"}
