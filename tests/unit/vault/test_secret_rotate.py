"""`trueup secret rotate`: one value is another one, everything else is what it was, byte by byte."""

from __future__ import annotations

import base64
import difflib
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import secret_rotate
from reconciler.cli.main import main
from tests.unit.vault.test_secret_commands import CANARY, Host, host
from tests.unit.vault.test_sops_manifest import TEXT

__all__ = ["host"]


def type_in(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.fixture
def two(host: Host) -> Host:
    host.write(A=host.sealed("old", key="A"), B=host.sealed("other", key="B"))
    return host


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_one_value_changes_and_nothing_else(line_end: str, two: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    two.file.write_bytes(two.file.read_bytes().replace(b"\n", line_end.encode()))
    two.file.chmod(0o640)
    before = two.file.read_bytes().decode()
    type_in(monkeypatch, CANARY.encode() + b"\n")
    told = two.run("rotate", str(two.file), "A")
    assert "Once it is committed prod/app/site rolls out: its processes that use tls." in told
    after = two.file.read_bytes().decode()
    assert two.values() == {"A": CANARY.encode(), "B": b"other"}
    changed = [line for line in difflib.ndiff(before.split(line_end), after.split(line_end)) if line[:1] in "+-"]
    assert changed
    assert all(len(line.strip("+- ").strip()) <= 64 and " " not in line[2:].strip() for line in changed), "ciphertext"
    assert after.count("# A") == after.count("# B") == 1
    assert two.file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        (b"x\n", b"x"),
        (b"x\r\n", b"x"),
        (b"x\n\n", b"x\n"),
        (b" x ", b" x "),
        (b"a=b\n", b"a=b"),
        (b"\xff\0", b"\xff\0"),
    ],
)
def test_what_is_typed_is_the_value(typed: bytes, value: bytes, two: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, typed)
    two.run("rotate", str(two.file), "A")
    assert two.values()["A"] == value


def test_a_file_and_a_made_value(two: Host, tmp_path: Path) -> None:
    (tmp_path / "pem").write_bytes(b"-----BEGIN\nx\n")
    two.run("rotate", str(two.file), "A", "--file", str(tmp_path / "pem"))
    assert two.values()["A"] == b"-----BEGIN\nx\n"
    made = set()
    for _ in range(3):
        told = two.run("rotate", str(two.file), "B", "--generate", "32", "--output", "json")
        value = two.values()["B"]
        assert value.decode() not in told
        assert len(base64.urlsafe_b64decode(value + b"=")) == 32
        made.add(value)
    assert len(made) == 3


def test_the_recipient_is_enough(two: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As CI or a developer has it, far from the key."""
    recipient = two.vault.recipient_of("acme", "shop")
    two.options = ["--state", str(tmp_path / "nothing"), "--recipient", recipient]
    two.run("rotate", str(two.file), "A", "--generate", "16")
    assert len(two.values()["A"]) == 22
    two.options = two.options[:2]
    assert "give --recipient age1" in _told(two, capsys, "rotate", str(two.file), "A", "--generate", "16")


def _told(host: Host, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:

    capsys.readouterr()
    assert main(["secret", *arguments, *host.options]) in (1, 2)
    found = capsys.readouterr()
    return found.out + found.err


def test_what_is_refused_changes_nothing(
    two: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = two.file.read_bytes()
    cases: list[tuple[list[str], bytes, str]] = [
        (["C"], b"x", "it has no such key"),
        (["A"], b"", "the new value is empty"),
        (["A"], b"\n", "the new value is empty"),
        (["A"], b"x" * 70_000, "it may have 65536"),
        (["A", "--generate", "8"], b"", "is not from 16 to 1024"),
        (["A", "--name", "prod/site/other"], b"x", "has 0 such secrets"),
    ]
    for arguments, typed, said in cases:
        type_in(monkeypatch, typed)
        told = _told(two, capsys, "rotate", str(two.file), *arguments)
        assert said in told, told
        assert two.file.read_bytes() == before
    two.file.write_text(TEXT)
    type_in(monkeypatch, CANARY.encode())
    two.options += ["--org", "org", "--project", "project"]
    told = _told(two, capsys, "rotate", str(two.file), "PASSWORD")
    assert f"""sops set --value-stdin {two.file} '["spec"]["values"]["PASSWORD"]'""" in told
    assert two.file.read_text() == TEXT


def test_of_several_secrets_in_a_file_one_is_named(two: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    text = two.file.read_text()
    two.file.write_text(f"{text}---\n{text.replace('name: tls', 'name: more')}")
    type_in(monkeypatch, b"x")
    assert "choose with --name: prod/site/tls, prod/site/more" in two.run("rotate", str(two.file), "A", code=2)
    type_in(monkeypatch, b"x")
    two.run("rotate", str(two.file), "A", "--name", "prod/site/tls")
    assert two.file.read_text().endswith(f"---\n{text.replace('name: tls', 'name: more')}")


def test_somebody_elses_change_meanwhile_is_kept(two: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(args: Any) -> bytes:
        two.file.write_text("# another one\n")
        return b"x"

    monkeypatch.setattr(secret_rotate, "_value", meanwhile)
    assert "somebody changed it meanwhile" in two.run("rotate", str(two.file), "A", code=5)
    assert two.file.read_text() == "# another one\n"
