"""The authority's folder: each change interrupted at each of its writes, read in between, and repeated."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kit.errors import Refusal, Transient
from kit.files import write_atomically
from kit.machine_identity import MachineIdentity, new_key
from reconciler.certificates import folder as files_module
from reconciler.certificates.authority import Authority, Issued
from reconciler.certificates.folder import AuthorityFolder
from reconciler.certificates.rotation import AFTER, drop_root, look, rotate_issuer, rotate_root
from reconciler.certificates.signing import ISSUING_LIFETIME, name_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NEVER = 10_000


class Interrupted(Exception):
    pass


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open_or_create(tmp_path / "ca", "fleet.test", NOW)


def issued(authority: Authority, now: datetime = NOW) -> Issued:
    asker = MachineIdentity(authority.folder.parent / "asker", "node", "node-a")
    return authority.certify(asker.request(new_key(), "fleet.test"), "node", "node-a", 1, now)


def leads_to(authority: Authority, chain: str) -> str:
    """The root in the bundle that a machine's chain leads to; empty for none."""
    certificate, issuer = x509.load_pem_x509_certificates(chain.encode())
    certificate.verify_directly_issued_by(issuer)
    for root in x509.load_pem_x509_certificates(authority.bundle.encode()):
        try:
            issuer.verify_directly_issued_by(root)
        except ValueError:
            continue
        return name_of(root)
    return ""


def interrupted(monkeypatch: pytest.MonkeyPatch, after_writes: int, act: Callable[[], Any]) -> bool:
    """Whether it came that far. A file is there wholly or not at all, so a crash is between two of them."""
    left = after_writes

    def counted(do: Any) -> Any:
        def one(*args: Any, **more: Any) -> Any:
            nonlocal left
            if not left:
                raise Interrupted
            left -= 1
            return do(*args, **more)

        return one

    with monkeypatch.context() as patched:
        patched.setattr(files_module, "write_atomically", counted(write_atomically))
        patched.setattr(Path, "unlink", counted(Path.unlink))
        try:
            act()
        except Interrupted:
            return True
    return False


def works(folder: Path, running: Authority, now: datetime) -> None:
    """Both a controller that runs and one that starts make certificates that lead to a root that is trusted."""
    running.refresh(now)
    for each in (running, Authority.open_or_create(folder, "fleet.test", now)):
        made = issued(each, now)
        assert leads_to(each, made.chain) == made.root
        assert made.issuer not in each.retired


@pytest.mark.parametrize("writes", range(7))
@pytest.mark.parametrize("what", ["issuer", "stolen", "distribute", "issue", "drop"])
def test_a_change_that_was_interrupted_leaves_all_working_and_is_finished_by_the_same_command(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, what: str, writes: int
) -> None:
    files, now = AuthorityFolder(authority.folder), NOW
    before, former = issued(authority), authority.issuer
    if what in ("issue", "drop"):
        rotate_root(files, now)
        now += HOUR
    if what == "drop":
        rotate_root(files, now)
        now += HOUR
    act: Callable[[], Any] = {
        "issuer": lambda: rotate_issuer(files, now, stolen=False),
        "stolen": lambda: rotate_issuer(files, now, stolen=True),
        "distribute": lambda: rotate_root(files, now),
        "issue": lambda: rotate_root(files, now),
        "drop": lambda: drop_root(files, now),
    }[what]
    if interrupted(monkeypatch, writes, act):
        works(authority.folder, authority, now)
        act()
    works(authority.folder, authority, now)
    found = look(files)
    assert found.coming is None or what == "distribute"
    assert not (authority.folder / "issuing.next.pem").exists()
    assert len(files.bundle()) == (2 if what in ("distribute", "issue") else 1)
    assert (authority.issuer == former) == (what == "distribute")
    assert bool(leads_to(authority, before.chain)) == (what != "drop")
    assert authority.retired == ({former} if what == "stolen" else set())


def test_the_steps_to_a_new_root_wait_for_the_machines(authority: Authority) -> None:
    files, old = AuthorityFolder(authority.folder), authority.root
    assert drop_root(files, NOW).result == "nothing"
    assert rotate_root(files, NOW).result == "distributing"
    authority.refresh(NOW)
    assert (authority.root, len(files.bundle())) == (old, 2), "trusted, and nothing is issued under it"
    early = rotate_root(files, NOW + AFTER - timedelta(seconds=1))
    assert (early.result, early.ready_at) == ("waiting", NOW + AFTER)
    with pytest.raises(Refusal, match="a new one is on its way"):
        drop_root(files, NOW + AFTER)
    assert rotate_root(files, NOW + AFTER).result == "done"
    authority.refresh(NOW + AFTER)
    assert authority.root != old
    assert drop_root(files, NOW + AFTER).result == "waiting"
    assert drop_root(files, NOW + 2 * AFTER).result == "done"
    assert rotate_root(files, NOW + 2 * AFTER).result == "distributing", "and so on"


def test_an_issuer_whose_key_was_stolen_does_not_count_and_one_that_was_replaced_does(authority: Authority) -> None:
    files, asker = AuthorityFolder(authority.folder), MachineIdentity(authority.folder.parent / "m", "node", "node-a")
    csr = asker.request(new_key(), "fleet.test")
    first = authority.certify(csr, "node", "node-a", 1, NOW).chain
    rotate_issuer(files, NOW, stolen=False)
    authority.refresh(NOW)
    assert authority.former(first).name == "node-a"
    second = authority.certify(csr, "node", "node-a", 1, NOW).chain
    rotate_issuer(files, NOW, stolen=True)
    authority.refresh(NOW)
    with pytest.raises(Refusal, match="not of this authority"):
        authority.former(second)
    assert authority.former(first).name == "node-a"


def test_what_did_not_make_a_certificate_does_not_count_as_its_issuer(authority: Authority, tmp_path: Path) -> None:
    """A machine's own certificate, another authority's issuer, and an issuer that had ended before."""
    key = new_key()
    asker = MachineIdentity(tmp_path / "m", "node", "node-a")
    mine = authority.certify(asker.request(key, "fleet.test"), "node", "node-a", 1, NOW)
    from reconciler.certificates.signing import sign_machine

    own = x509.load_pem_x509_certificates(mine.chain.encode())[0]
    by_machine = sign_machine(new_key().public_key(), "spiffe://fleet.test/node/node-b", 1, own, key, NOW)
    other = issued(Authority.open_or_create(tmp_path / "other", "fleet.test", NOW)).chain
    late = issued(authority, NOW + ISSUING_LIFETIME + 2 * HOUR).chain
    pem = files_module.PEM
    for chain in ((by_machine.public_bytes(pem) + own.public_bytes(pem)).decode(), other, late, "", "x"):
        with pytest.raises(Refusal, match="not of this authority"):
            authority.former(chain)


def test_an_issuer_is_made_anew_while_a_controller_runs(authority: Authority) -> None:
    late = NOW + ISSUING_LIFETIME * 0.9
    name = authority.issuer
    assert authority.refresh(late)
    assert authority.issuer == name, "with the same key and name"
    assert leads_to(authority, issued(authority, late).chain) == authority.root
    assert not authority.refresh(late)


def test_without_the_roots_key_there_is_no_new_issuer(authority: Authority) -> None:
    files = AuthorityFolder(authority.folder)
    (authority.folder / "root.key").rename(authority.folder / "elsewhere")
    with pytest.raises(Refusal, match="is not there, or does not fit"):
        rotate_issuer(files, NOW, stolen=False)
    assert not authority.refresh(NOW + ISSUING_LIFETIME * 0.9)
    works(authority.folder, authority, NOW)


def test_a_folder_that_cannot_be_read_changes_nothing(authority: Authority) -> None:
    issuer = authority.issuer
    (authority.folder / "bundle.pem").write_text("torn")
    with pytest.raises(Refusal, match="open the authority"):
        authority.refresh(NOW)
    assert authority.issuer == issuer
    assert leads_to(authority, issued(authority).chain)


def test_two_do_not_change_it_at_once(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "LOCK_WAIT_S", 0.1)
    files = AuthorityFolder(authority.folder)
    with files.locked(), pytest.raises(Transient, match="another program changes it"):
        rotate_issuer(AuthorityFolder(authority.folder), NOW, stolen=False)


@pytest.mark.parametrize("domain", ["a.b", "x" * 128])
def test_names_are_of_one_key_and_fit_into_a_certificate(tmp_path: Path, domain: str) -> None:
    """X.520 allows 64 characters, a trust domain 128."""
    made = Authority.open_or_create(tmp_path / "ca", domain, NOW)
    files = AuthorityFolder(tmp_path / "ca")
    names = {made.root, made.issuer, rotate_issuer(files, NOW, stolen=False).what, rotate_root(files, NOW).what}
    assert len(names) == 4
    assert all(len(name) <= 64 for name in names)
