"""The probe for hardware virtualisation, with programs in qemu's place that say and do what a bad machine does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent import accelerator
from agent.accelerator import probe, remembered_probe
from kit.errors import Refusal


@pytest.fixture(autouse=True)
def kvm_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator, "KVM", device)
    return device


def qemu(tmp_path: Path, body: str) -> str:
    path = tmp_path / "qemu"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo QEMU {hash(body)} && exit\necho run >>{tmp_path}/runs\n{body}\n'
    )
    path.chmod(0o755)
    return str(path)


async def test_a_guest_that_says_hello_is_the_proof(tmp_path: Path) -> None:
    answer = await probe(qemu(tmp_path, "echo HELLO 1; exec sleep 60"), tmp_path, tmp_path, 10.0)
    assert answer.name == "kvm"


async def test_a_guest_that_hangs_is_killed_at_the_deadline(tmp_path: Path) -> None:
    begun = time.monotonic()
    answer = await probe(qemu(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 60"), tmp_path, tmp_path, 0.5)
    assert answer.name == "tcg"
    assert "0.5 s" in answer.reason
    assert time.monotonic() - begun < 5
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_the_reason_has_qemus_last_words(tmp_path: Path) -> None:
    answer = await probe(qemu(tmp_path, "echo failed to set MSR 0x10a >&2; exit 1"), tmp_path, tmp_path, 10.0)
    assert (answer.name, "failed to set MSR 0x10a" in answer.reason) == ("tcg", True)


async def test_no_device_no_guest(tmp_path: Path, kvm_device: Path) -> None:
    kvm_device.unlink()
    answer = await probe(qemu(tmp_path, ""), tmp_path, tmp_path, 10.0)
    assert answer.name == "tcg"
    assert "No such file" in answer.reason
    assert not (tmp_path / "runs").exists()


async def test_the_answer_is_kept_until_something_changes(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.touch()

    async def ask(body: str) -> int:
        await remembered_probe(tmp_path / "state", qemu(tmp_path, body), kernel, kernel, 5.0)
        return (tmp_path / "runs").read_text().count("run")

    assert await ask("echo HELLO 1") == 1
    assert await ask("echo HELLO 1") == 1
    assert await ask("echo HELLO 1 # another version") == 2
    (tmp_path / "state/accelerator.json").write_text('{"key": "')  # torn
    assert await ask("echo HELLO 1 # another version") == 3


async def test_without_qemu(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="qemu-system-x86"):
        await remembered_probe(tmp_path, str(tmp_path / "nothing"), tmp_path, tmp_path)
