"""Who may change what: modes, roots, exceptions, and where one signer is not enough."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kit.errors import Refusal, Transient
from reconciler.cli import exits
from reconciler.cli.main import main
from reconciler.git.signers_file import SignersFile
from tests.integration.git.people import alice, bob, carol, folder, gpg, mallory, repository
from tests.integration.git.repository import SITE
from tests.integration.git.signing import NOBODY, Gpg, Person, SignedRepository, codes, judged, signers_file, ssh_person
from tests.unit.planner.trees import ENVIRONMENT, app, route

__all__ = ["alice", "bob", "carol", "folder", "gpg", "mallory", "repository"]
ROUTE = "apps/site/route.yaml"
CHANGE = {ROUTE: route("r", "other")}
RULE = {"paths": ["apps/site/**"], "signers": 2}


def test_good_signatures_of_both_kinds(
    repository: SignedRepository, folder: Path, alice: Person, carol: Person
) -> None:
    base = repository.head()
    first, head = repository.signed(alice, CHANGE), repository.signed(carol)
    found = judged(repository, signers_file(folder, alice, carol), head, base)
    assert codes(found) == [] and found.plan is not None and len(found.plan.changes) == 1
    assert [(each.commit, each.signer, each.kind) for each in found.signatures] == [
        (head, "carol", "gpg"),
        (first, "alice", "ssh"),
    ]
    assert found.signatures[0].fingerprint == carol.key["gpg"]
    assert found.signatures[1].fingerprint.startswith("SHA256:")


def test_without_a_signers_file_nothing_is_asked(repository: SignedRepository, folder: Path, alice: Person) -> None:
    head = repository.signed(NOBODY, CHANGE)
    assert codes(judged(repository, signers_file(folder, alice, require="off"), head)) == []


def test_warn_tells_and_applies(repository: SignedRepository, folder: Path, alice: Person) -> None:
    base, head = repository.head(), repository.signed(NOBODY, CHANGE)
    found = judged(repository, signers_file(folder, alice, require="warn"), head, base)
    assert codes(found) == [] and found.plan is not None
    assert [(each.code, each.severity) for each in found.findings] == [("signature_missing", "warning")]


def test_head_asks_for_the_newest_alone(repository: SignedRepository, folder: Path, alice: Person) -> None:
    base = repository.head()
    repository.signed(NOBODY, CHANGE)
    signers = signers_file(folder, alice, require="head")
    assert codes(judged(repository, signers, repository.signed(alice), base)) == []
    assert codes(judged(repository, signers, repository.signed(NOBODY), base)) == ["signature_missing"]


def test_the_first_adoption(repository: SignedRepository, folder: Path, alice: Person) -> None:
    """Of the head alone, whose signature covers the whole tree; behind a root, of all."""
    root = repository.head()
    repository.signed(NOBODY, CHANGE)
    head = repository.signed(alice)
    assert codes(judged(repository, signers_file(folder, alice), head)) == []
    assert codes(judged(repository, signers_file(folder, alice, root=root), head)) == ["signature_missing"]
    assert codes(judged(repository, signers_file(folder, alice), repository.signed(NOBODY))) == ["signature_missing"]


def test_an_operator_answers_for_a_commit(repository: SignedRepository, folder: Path, alice: Person) -> None:
    base = repository.head()
    slipped = repository.signed(NOBODY, CHANGE)
    head = repository.signed(alice)
    assert codes(judged(repository, signers_file(folder, alice, accepted=[slipped]), head, base)) == []
    assert codes(judged(repository, signers_file(folder, alice, accepted=[base]), head, base)) == ["signature_missing"]


def test_a_commit_that_git_amended_and_rebased(
    repository: SignedRepository, folder: Path, alice: Person, bob: Person
) -> None:
    """The way out that the finding names: sign the whole range again. The committer signs, whoever the author is."""
    base = repository.head()
    repository.signed(NOBODY, CHANGE)
    repository.signed(alice)
    with repository.acting(bob):
        again = f"git {' '.join(bob.options)} commit -q --amend -S --no-edit --allow-empty"
        repository.git(*bob.options, "rebase", "-q", "--keep-empty", "--exec", again, base)
    assert codes(judged(repository, signers_file(folder, bob), repository.head(), base)) == []


# --- several signers ---


@pytest.fixture
def base(repository: SignedRepository) -> str:
    return repository.head()


def rules(folder: Path, base: str, *people: Person, **rule: object) -> Path:
    return signers_file(folder, *people, root=base, rules=[rule or RULE])


def test_one_signer_is_too_few(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    signers = rules(folder, base, alice, bob)
    head = repository.signed(alice, {**CHANGE, "README": "free for all"})
    found = judged(repository, signers, head, base)
    assert [(each.code, each.path) for each in found.findings] == [("signers_too_few", ROUTE)]
    assert "needs 2 signers" in found.findings[0].message and "1 (alice)" in found.findings[0].message
    assert codes(judged(repository, signers, repository.signed(bob, {"README": "2"}), base)) == ["signers_too_few"]


def test_an_approval_on_top(repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person) -> None:
    """As the finding says it."""
    signers = rules(folder, base, alice, bob)
    head = repository.signed(alice, CHANGE)
    fix = judged(repository, signers, head, base).findings[0].fix
    assert f"Trueup-Approve: {ROUTE}" in fix and "merge with a merge commit" in fix
    approved = repository.signed(bob, message=f"Approve\n\nTrueup-Approve: {ROUTE}")
    assert codes(judged(repository, signers, approved, base)) == []


def test_an_approval_of_oneself_counts_once(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    repository.signed(alice, CHANGE)
    head = repository.signed(alice, message="Approve\n\nTrueup-Approve: **")
    assert codes(judged(repository, rules(folder, base, alice, bob), head, base)) == ["signers_too_few"]


def test_an_approval_is_of_these_very_bytes(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    """What Alice pushes after Bob's approval is not what Bob approved."""
    repository.signed(alice, CHANGE)
    repository.signed(bob, message="Approve\n\nTrueup-Approve: **")
    head = repository.signed(alice, {ROUTE: route("r", "evil")})
    assert codes(judged(repository, rules(folder, base, alice, bob), head, base)) == ["signers_too_few"]


def test_an_approval_of_another_path_is_none(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    repository.signed(alice, CHANGE)
    head = repository.signed(bob, message="Approve\n\nTrueup-Approve: apps/other/**")
    assert codes(judged(repository, rules(folder, base, alice, bob), head, base)) == ["signers_too_few"]


@pytest.mark.parametrize("by", ["mallory", "nobody"])
def test_an_approval_that_nobody_signed_well_is_none(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person, mallory: Person, by: str
) -> None:
    """Also where the head alone has to be signed."""
    repository.signed(alice, CHANGE)
    repository.signed({"mallory": mallory, "nobody": NOBODY}[by], message="Approve\n\nTrueup-Approve: **")
    signers = signers_file(folder, alice, bob, root=base, rules=[RULE], require="head")
    assert codes(judged(repository, signers, repository.signed(alice), base)) == ["signers_too_few"]
    approved = repository.signed(bob, message="Approve\n\nTrueup-Approve: **")
    assert codes(judged(repository, signers, approved, base)) == []


@pytest.mark.parametrize("message", ["merge", "merge\n\nTrueup-Approve: apps/**"])
def test_a_merge_approves_only_when_it_says_so(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person, message: str
) -> None:
    """Bob's `git pull` brings Alice's commit along; that is no review."""
    repository.git("checkout", "-q", "-b", "feature")
    repository.signed(alice, CHANGE)
    repository.git("checkout", "-q", "main")
    repository.signed(bob, {"README": "bob's"})
    head = repository.merge(bob, "feature", message=message)
    expected = [] if "Approve" in message else ["signers_too_few"]
    assert codes(judged(repository, rules(folder, base, alice, bob), head, base)) == expected


def test_both_wrote_it(repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person) -> None:
    """Each file needs two; that both signed something is not enough."""
    other = "apps/site/app.yaml"
    repository.signed(alice, CHANGE)
    head = repository.signed(bob, {other: app().replace("128Mi", "256Mi")})
    found = judged(repository, rules(folder, base, alice, bob), head, base)
    assert [each.path for each in found.findings] == [other, ROUTE]


def test_a_removal_needs_them_too(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    signers = rules(folder, base, alice, bob)
    head = repository.signed(alice, remove=(ROUTE,))
    assert codes(judged(repository, signers, head, base)) == ["signers_too_few"]
    head = repository.signed(bob, message=f"Approve\n\nTrueup-Approve: {ROUTE}")
    assert codes(judged(repository, signers, head, base)) == []


def test_what_was_taken_back_needs_nobody(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    repository.signed(alice, CHANGE)
    head = repository.signed(alice, {ROUTE: SITE[ROUTE]})
    assert codes(judged(repository, rules(folder, base, alice, bob), head, base)) == []


def test_an_unrelated_root_is_no_word_about_what_it_lacks(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    """A tree without the file, from a history without the file, did not remove it."""
    repository.git("checkout", "-q", "--orphan", "elsewhere")
    repository.git("rm", "-rqf", ".")
    repository.signed(bob, {"README": "of another project"})
    repository.git("checkout", "-q", "main")
    repository.signed(alice, remove=(ROUTE,))
    with repository.acting(alice):
        merge = ("merge", "-q", "-S", "--allow-unrelated-histories", "-m", "merge", "elsewhere")
        repository.git(*alice.options, *merge)
    found = judged(repository, rules(folder, base, alice, bob), repository.head(), base)
    assert codes(found) == ["signers_too_few"]


def test_a_machine_is_no_second_signer(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    forge = ssh_person(folder, "forge-bot")
    signers = rules(folder, base, alice, bob, forge)
    repository.signed(alice, CHANGE)
    head = repository.signed(forge, message="Approve\n\nTrueup-Approve: **")
    found = judged(repository, signers, head, base)
    assert codes(found) == ["signers_too_few"]
    assert [each.machine for each in found.signatures] == [True, False]


def test_an_environment_is_guarded_wherever_its_manifests_lie(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    """A path says nothing about what a file declares."""
    signers = rules(folder, base, alice, bob, envs=["prod"])
    dev = ENVIRONMENT.replace("prod", "dev")
    head = repository.signed(alice, {"dev/env.yaml": dev})
    assert codes(judged(repository, signers, head, base)) == []
    head = repository.signed(alice, {"dev/innocent.yaml": app("evil")})
    found = judged(repository, signers, head, base)
    assert [(each.code, each.path) for each in found.findings] == [
        ("signers_too_few", "dev/env.yaml"),
        ("signers_too_few", "dev/innocent.yaml"),
    ]
    head = repository.signed(bob, message="Approve\n\nTrueup-Approve: dev/")
    assert codes(judged(repository, signers, head, base)) == []


def test_an_accepted_rewrite_has_the_operators_word(
    repository: SignedRepository, folder: Path, base: str, alice: Person, bob: Person
) -> None:
    """It stands for the second signer, not for the first."""
    applied = repository.signed(alice)
    repository.git("reset", "-q", "--hard", base)
    signers = rules(folder, base, alice, bob)
    head = repository.signed(alice, CHANGE)
    assert codes(judged(repository, signers, head, applied)) == ["history_rewritten"]
    assert codes(judged(repository, signers, head, applied, rewrite=head)) == []
    for head in (repository.signed(NOBODY), base):  # the second is older than what is applied: nothing lies between
        assert codes(judged(repository, signers, head, applied, rewrite=head)) == ["signature_missing"]


def test_wrong_dates_bring_nothing_settled_back(
    repository: SignedRepository, folder: Path, alice: Person, bob: Person
) -> None:
    """Where dates run backwards, a walk from head to base can meet commits that the base has. Their lack of a signature
    is no fault any more, and their approvals count no more."""
    start = repository.head()
    tree, evil = repository.git("rev-parse", "HEAD^{tree}"), repository.signed(NOBODY, CHANGE)
    changed = repository.git("rev-parse", f"{evil}^{{tree}}")

    def commit(of: str, parents: list[str], date: int, person: Person, message: str = "x") -> str:
        dated = {f"GIT_{who}_DATE": f"@{date} +0000" for who in ("AUTHOR", "COMMITTER")}
        with repository.acting(person):
            repository.environment |= dated
            sign = ["-S"] if person.options else []
            links = [word for parent in parents for word in ("-p", parent)]
            return repository.git(*person.options, "commit-tree", of, *links, *sign, "-m", message)

    approved = commit(changed, [start], 2_000_000_000, bob, "x\n\nTrueup-Approve: **")
    old = commit(tree, [approved], 1_999_999_999, NOBODY)
    base = old
    for number in range(30):
        base = commit(tree, [base], 1000 + number, NOBODY)
    head = commit(changed, [base, old], 1_999_999_998, alice)
    repository.git("update-ref", "refs/heads/main", head)
    assert codes(judged(repository, signers_file(folder, alice, bob), head, base)) == []
    assert codes(judged(repository, rules(folder, start, alice, bob), head, base)) == ["signers_too_few"]


def test_a_shallow_clone_cannot_say(repository: SignedRepository, folder: Path, alice: Person, tmp_path: Path) -> None:
    base = repository.head()
    repository.signed(NOBODY)
    root = repository.head()
    repository.git("checkout", "-q", "--orphan", "other")
    repository.signed(alice)
    repository.git("checkout", "-q", "main")
    for _ in range(3):
        head = repository.signed(alice)
    clone = tmp_path / "clone"
    repository.git("clone", "-q", "--depth=2", f"file://{repository.path}", str(clone))
    (clone / ".git" / "objects" / "info").mkdir(exist_ok=True)
    shallow = SignedRepository.__new__(SignedRepository)
    shallow.path, shallow.environment = clone, {}
    shallow.git("fetch", "-q", "--depth=1", "origin", root)
    assert base != root
    with pytest.raises(Transient, match="not in the clone"):
        judged(shallow, signers_file(folder, alice), head, root, rewrite=head)


# --- the file and the command line ---


def test_a_gpg_file_holds_the_key_that_is_named(folder: Path, carol: Person, alice: Person, gpg: Gpg) -> None:
    grace = gpg.person(folder, "grace")
    path = folder / carol.key["file"]
    kept = path.read_bytes()
    try:
        signers = signers_file(folder, carol)
        assert SignersFile(signers).trust().keyring is not None
        for content in (
            (folder / grace.key["file"]).read_bytes(),
            kept + (folder / grace.key["file"]).read_bytes(),
            b"x",
        ):
            path.write_bytes(content)
            with pytest.raises(Refusal, match="its file holds"):
                SignersFile(signers).trust()
        path.unlink()
        with pytest.raises(Transient, match="no commit is applied"):
            SignersFile(signers).trust()
    finally:
        path.write_bytes(kept)


def test_a_file_is_read_again_only_for_a_reason(folder: Path, carol: Person) -> None:
    file = SignersFile(signers_file(folder, carol))
    first = file.trust()
    assert file.trust() is first
    signers_file(folder, carol, require="head")
    assert file.trust().policy.require == "head"


def test_plan_and_validate_say_it_offline(
    repository: SignedRepository, folder: Path, alice: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    base, head = repository.head(), repository.signed(alice, CHANGE)
    signers = str(signers_file(folder, alice))
    command = ["plan", f"{base}..{head}", "--repo", str(repository.path), "--signers", signers, "--output", "json"]
    assert main(command) == exits.OK
    document = json.loads(capsys.readouterr().out)
    assert [(each["signer"], each["commit"]) for each in document["signatures"]] == [("alice", head)]
    slipped = repository.signed(NOBODY)
    command[1] = f"{base}..{slipped}"
    assert main(command) == exits.GENERIC
    assert [each["code"] for each in json.loads(capsys.readouterr().out)["findings"]] == ["signature_missing"]
    site = ["validate", str(repository.path), "--signers", signers]
    assert main(site) == exits.OK
    assert "1 signer" in capsys.readouterr().out
    signers_file(folder, alice, require="sometimes")
    assert main(site) == exits.GENERIC
    assert "signers_invalid" in capsys.readouterr().out


def test_a_gone_program_is_said(folder: Path, carol: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("gpg") is None
    with pytest.raises(Transient, match="the program gpg is not there"):
        SignersFile(signers_file(folder, carol)).trust()
