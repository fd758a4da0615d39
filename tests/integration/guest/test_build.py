"""The guest's boot files, out of Debian's real package."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from agent.accelerator import probe
from agent.guest import kernel
from agent.guest.build import build, main
from agent.ports import GuestFiles
from kit.errors import Refusal, Transient


def test_equal_inputs_give_equal_files_and_an_unchanged_build_is_reused(
    guest_files: GuestFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = build(tmp_path)
    assert again.initramfs.read_bytes() == guest_files.initramfs.read_bytes()
    assert again.kernel.parent.name == guest_files.kernel.parent.name
    assert (tmp_path / "vmlinuz").resolve() == again.kernel
    assert (tmp_path / "initramfs.cpio.gz").resolve() == again.initramfs
    monkeypatch.setattr(kernel, "run", lambda *_, **__: pytest.fail("a reused build runs nothing"))
    begun = time.monotonic()
    assert build(tmp_path) == again
    assert time.monotonic() - begun < 0.2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "builds", "initramfs.cpio.gz", "vmlinuz"]


def test_a_package_that_apt_does_not_vouch_for_is_refused(tmp_path: Path) -> None:
    """A package of the right name with other content."""
    listed = subprocess.run(
        ["apt-cache", "show", "linux-image-cloud-amd64"], capture_output=True, text=True, check=True
    )
    fields = dict(line.split(": ", 1) for line in listed.stdout.splitlines() if ": " in line)
    name = fields["Depends"].split()[0]
    control = (
        f"Package: {name}\nVersion: {fields['Version']}\nArchitecture: amd64\nMaintainer: x <x@x>\nDescription: x\n"
    )
    (tmp_path / "p/DEBIAN").mkdir(parents=True)
    (tmp_path / "p/DEBIAN/control").write_text(control)
    subprocess.run(["dpkg-deb", "-b", str(tmp_path / "p"), str(tmp_path / "x.deb")], check=True, capture_output=True)
    with pytest.raises(Refusal, match="SHA-256"):
        build(tmp_path / "out", package=tmp_path / "x.deb")
    assert not list((tmp_path / "out").glob("builds/*"))


def test_offline_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = kernel.program
    monkeypatch.setattr(kernel, "program", lambda name, package: "false" if name == "apt-get" else real(name, package))
    with pytest.raises(Transient, match="--package"):
        build(tmp_path)
    assert main(["--output", str(tmp_path)]) == 6
    assert "connect to the network" in capsys.readouterr().err


def test_a_missing_tool_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_SYSTEM_FOLDERS", str(tmp_path))
    with pytest.raises(Refusal, match="apt-get install apt"):
        build(tmp_path / "out")


async def test_the_probe_decides_within_its_time(guest_files: GuestFiles) -> None:
    """Whatever this machine can do, the answer comes, and it has a reason."""
    begun = time.monotonic()
    answer = await probe("qemu-system-x86_64", guest_files.kernel, guest_files.initramfs, 10.0)
    assert answer.name in ("kvm", "tcg")
    assert answer.reason
    assert time.monotonic() - begun < 20
