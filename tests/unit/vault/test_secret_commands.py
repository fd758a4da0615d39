"""`trueup secret rewrap`, `edit`, `rotate-key` on files: what they change, refuse and leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.cli.main import main
from reconciler.core.declared import Scope
from reconciler.core.model import ResourceId
from reconciler.core.sealed_text import secrets_in
from reconciler.vault import Vault, key_file, seal
from reconciler.vault.sealing import sealed_for

SECRET = ResourceId("acme", "shop", "prod", "site", "secret", "tls")
CANARY = "correct-horse-battery-staple"
SCOPE = Scope("acme", "shop")
MEMORY = (Path("/dev/shm"), Path(f"/run/user/{os.getuid()}"))  # where edited values lie


class Host:
    """A controller's host without a controller, and a checkout."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = folder / "state" / "platform.agekey"
        self.file = folder / "work" / "tls.yaml"
        self.file.parent.mkdir()
        self.vault = Vault.open_or_create(self.path)
        self._capsys = capsys
        self.options = ["--state", str(folder / "state"), "--org", "acme", "--project", "shop"]

    def write(self, **values: str) -> None:
        blocks = (f"    {key}: |  # {key}\n{_block(armored)}" for key, armored in values.items())
        head = "# a comment\napiVersion: trueup/v1\nkind: Secret\nmetadata: {name: tls, app: site, env: prod}\nspec:\n"
        self.file.write_text(f"{head}  values:\n{''.join(blocks)}# the end\n")

    def sealed(self, value: str, *, recipient: str = "", to: ResourceId = SECRET, key: str = "A") -> str:
        return sealed_for(value.encode(), to, key, recipient or self.vault.recipient_of("acme", "shop"))

    @property
    def platform(self) -> str:
        return str(key_file.read(self.path).identities[0].to_public())

    def values(self) -> dict[str, bytes]:
        (found,), _ = secrets_in(self.file.read_bytes(), "", SCOPE)
        return self.vault.values(found.manifest, self.vault.resolve(found.manifest).spec.version_id)

    def run(self, *arguments: str, code: int = 0) -> str:
        options = self.options[:2] if arguments[0].endswith(("-key", "-keys")) else self.options
        self._capsys.readouterr()
        found = main(["secret", *arguments, *options])
        out = self._capsys.readouterr()
        assert CANARY not in out.out + out.err
        assert found == code, out
        return out.out + out.err


def _block(armored: str) -> str:
    return "".join(f"      {line}\n" for line in armored.strip().splitlines())


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Host:
    for name in ("TRUEUP_CONTROLLER", "TRUEUP_TOKEN", "TRUEUP_STATE", "VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    return Host(tmp_path, capsys)


# --- rewrap ---


def test_rewrap_leaves_what_is_right_as_it_is(host: Host) -> None:
    host.write(A=host.sealed(CANARY))
    before = host.file.read_bytes()
    assert "0 values sealed anew" in host.run("rewrap", str(host.file.parent))
    assert host.file.read_bytes() == before


def test_after_a_rotation_rewrap_seals_anew_with_the_same_values_and_version(host: Host) -> None:
    host.write(A=host.sealed(CANARY), B=host.sealed("b", key="B"))
    host.file.chmod(0o640)
    before, manifests = host.file.read_text(), secrets_in(host.file.read_bytes(), "", SCOPE)[0]
    version = host.vault.resolve(manifests[0].manifest).spec.version_id
    host.run("rotate-key")
    assert "2 values to seal anew" in host.run("rewrap", "--check", str(host.file), code=1)
    assert host.file.read_text() == before
    assert "2 values sealed anew" in host.run("rewrap", str(host.file))
    assert host.file.stat().st_mode & 0o777 == 0o640
    host.run("rewrap", "--check", str(host.file))
    host.run("drop-keys", "--keys", "1", "--vouch")
    assert host.values() == {"A": CANARY.encode(), "B": b"b"}
    (after,), _ = secrets_in(host.file.read_bytes(), "", SCOPE)
    assert host.vault.resolve(after.manifest).spec.version_id == version
    kept = [line for line in before.splitlines() if "#" in line]
    assert [line for line in host.file.read_text().splitlines() if "#" in line] == kept
    assert os.listdir(host.file.parent) == ["tls.yaml"]


@pytest.mark.parametrize("doubtful", ["platform", "age alone"])
def test_what_may_be_somebody_elses_is_not_taken_without_a_word(host: Host, doubtful: str) -> None:
    """No controller is there to say that it was applied."""
    recipient = host.vault.recipient_of("acme", "shop")
    alone = seal(CANARY.encode(), recipient, armored=True).decode()
    host.write(A=host.sealed(CANARY, recipient=host.platform) if doubtful == "platform" else alone)
    before = host.file.read_bytes()
    assert "say with --vouch that every value is meant" in host.run("rewrap", str(host.file), code=2)
    assert host.file.read_bytes() == before
    host.run("rewrap", "--vouch", str(host.file))
    assert host.values() == {"A": CANARY.encode()}


@pytest.mark.parametrize("recipient", ["project", "platform"])
def test_a_value_for_another_place_is_refused_and_its_file_stays(host: Host, recipient: str) -> None:
    to = host.platform if recipient == "platform" else ""
    dev = ResourceId("acme", "shop", "dev", "site", "secret", "tls")
    host.write(A=host.sealed("fine", recipient=host.platform), B=host.sealed(CANARY, recipient=to, to=dev, key="B"))
    before = host.file.read_bytes()
    told = host.run("rewrap", "--vouch", str(host.file), code=1)
    assert f"{host.file}:" in told
    assert "error: the value of B was sealed for another secret or key [secret_elsewhere]" in told
    assert host.file.read_bytes() == before


def test_another_projects_value_is_refused_also_where_somebody_vouches(host: Host) -> None:
    host.write(A=host.sealed(CANARY, recipient=host.vault.recipient_of("acme", "blog")))
    assert "cannot be decrypted with the key of acme/shop" in host.run("rewrap", "--vouch", str(host.file), code=1)


# --- edit ---


def editor(folder: Path, script: str) -> str:
    path = folder / "editor"
    path.write_text(f"#!{sys.executable}\nimport os, pathlib, sys, time\nfile = pathlib.Path(sys.argv[1])\n{script}\n")
    path.chmod(0o755)
    return str(path)


def left_in_memory() -> list[Path]:
    return [path for folder in MEMORY if folder.is_dir() for path in folder.glob("trueup-edit-*")]


def test_edit_seals_what_changed_and_nothing_else(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.write(A=host.sealed(CANARY), B=host.sealed("b", key="B"), C=host.sealed("c", key="C"))
    before = host.file.read_text()
    script = f"""
assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
assert os.statvfs(file).f_fsid != os.statvfs({str(tmp_path)!r}).f_fsid
text = file.read_text()
assert "A={CANARY}" in text
(file.parent / "values.env~").write_text(text)
file.write_text(text.replace("B=b", "B=better").replace("C=c\\n", "D=new\\n"))
"""
    monkeypatch.setenv("EDITOR", editor(tmp_path, script))
    assert "3 values changed: B, C, D" in host.run("edit", str(host.file))
    assert host.values() == {"A": CANARY.encode(), "B": b"better", "D": b"new"}
    a_block = before[before.index("    A:") : before.index("    B:")]
    assert a_block in host.file.read_text(), "its ciphertext is what it was"
    assert left_in_memory() == []


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("sys.exit(3)", "ended with 3"),
        ("os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("file.write_text('')", "there are no values left"),
        (f"file.write_text('{CANARY}')", "line 1 is no KEY=VALUE"),
        ("pass", "0 values changed"),
    ],
)
def test_edit_that_does_not_end_well_changes_and_leaves_nothing(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    host.write(A=host.sealed(CANARY))
    before = host.file.read_bytes()
    monkeypatch.setenv("EDITOR", editor(tmp_path, script))
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115  # nobody to ask
    code = 0 if "0 values" in told else 2 if "no" in told.split() else 1
    assert told in host.run("edit", str(host.file), code=code)
    assert host.file.read_bytes() == before
    assert left_in_memory() == []


def test_edit_that_is_told_to_stop_wipes_what_it_showed(host: Host, tmp_path: Path) -> None:
    host.write(A=host.sealed(CANARY))
    seen = tmp_path / "seen"
    waits = editor(tmp_path, f"pathlib.Path({str(seen)!r}).write_text(str(file))\ntime.sleep(60)")
    command = [sys.executable, "-m", "reconciler.cli.main", "secret", "edit", str(host.file), *host.options]
    process = subprocess.Popen(command, env={**os.environ, "EDITOR": waits}, cwd=Path(__file__).parents[3])
    deadline_s = time.monotonic() + 20
    while not (seen.exists() and seen.read_text()):
        assert time.monotonic() < deadline_s
        assert process.poll() is None
        time.sleep(0.02)
    assert Path(seen.read_text()).exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert not Path(seen.read_text()).parent.exists()


def test_edit_shows_nobody_what_was_copied_from_elsewhere(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", editor(tmp_path, "raise SystemExit(1)"))
    dev = ResourceId("acme", "shop", "dev", "site", "secret", "tls")
    for armored in (host.sealed(CANARY, to=dev), host.sealed(CANARY, recipient=host.platform)):
        host.write(A=armored)
        assert "was not sealed to acme/shop for this place" in host.run("edit", str(host.file), code=1)


# --- keys ---


def test_without_the_key_the_commands_say_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tls.yaml").write_text("")
    for words in (["rotate-key"], ["drop-keys", "--keys", "1"], ["rewrap", str(tmp_path)]):
        assert main(["secret", *words, "--state", str(tmp_path / "none")]) == 2
        assert "run it on the controller's host" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_key_that_others_may_read_is_not_rotated(host: Host) -> None:
    host.path.chmod(0o644)
    assert "others may read it" in host.run("rotate-key", code=3)
    assert len(host.path.read_text().splitlines()) == 1
