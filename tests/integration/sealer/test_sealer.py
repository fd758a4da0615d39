"""The sealer as a process: it answers as the vault does, shows nothing, and comes back whatever happens to it."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from kit.errors import Refusal, Transient
from kit.sealed_file import Binding, open_file
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import SecretManifest, SecretRefusal
from reconciler.git.bounded.limits import Limits
from reconciler.sealer import SEALER_LIMITS, Sealer
from reconciler.vault import Accepted, Vault, key_file
from reconciler.vault.sealing import sealed_for

SECRET = ResourceId("org", "project", "prod", "site", "secret", "tls")
BINDING = Binding("node-a", "i-1", "org/project/prod/site/app/site", "sv-1")
SHORT = Limits(memory_bytes=SEALER_LIMITS.memory_bytes, question_s=3.0, request_bytes=SEALER_LIMITS.request_bytes)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "platform.agekey"


@pytest.fixture
def sealer(key: Path) -> Iterator[Sealer]:
    made = Sealer.open_or_create(key)
    yield made
    made.close()


def manifest(sealer: Sealer, value: bytes, identity: ResourceId = SECRET) -> SecretManifest:
    recipient = sealer.recipient_of(identity.org, identity.project)
    return SecretManifest(identity, {"KEY": sealed_for(value, identity, "KEY", recipient)}, "b" * 40)


def test_it_answers_as_the_vault_does(sealer: Sealer, key: Path) -> None:
    vault, secret = Vault(key), manifest(sealer, b"a value")
    assert sealer.recipient_of("org", "project") == vault.recipient_of("org", "project")
    resolved = sealer.resolve(secret)
    assert resolved == vault.resolve(secret)
    assert sealer.fits(secret, resolved.spec.version_id)
    assert not sealer.fits(secret, "sv-another")
    node = pyrage.x25519.Identity.generate()
    bound = sealer.seal_file([(secret, resolved.spec.version_id)], str(node.to_public()), BINDING)
    assert b"KEY=a value\n" in open_file(bound, node, BINDING)


def test_a_refusal_comes_over_whole(sealer: Sealer) -> None:
    elsewhere = dataclasses.replace(manifest(sealer, b"a value"), id=dataclasses.replace(SECRET, env="dev"))
    with pytest.raises(SecretRefusal) as refused:
        sealer.resolve(elsewhere, Accepted(platform_recipient=True, unbound=True))
    assert (refused.value.key, refused.value.code) == ("KEY", "secret_elsewhere")
    with pytest.raises(SecretRefusal) as changed:
        sealer.seal_file([(elsewhere, "sv-x")], str(pyrage.x25519.Identity.generate().to_public()), BINDING)
    assert changed.value.code == "secret_changed"


def test_it_is_confined(sealer: Sealer) -> None:
    folder = Path(f"/proc/{sealer.pid}")
    limits = (folder / "limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
    assert (folder / "ns" / "net").readlink() != Path("/proc/self/ns/net").readlink(), "no network but its own"
    files = [os.readlink(each) for each in (folder / "fd").iterdir()]
    assert not [each for each in files if "socket" in each or "agekey" in each]
    assert b"AGE-SECRET" not in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1"


def test_it_is_started_anew_after_a_crash(sealer: Sealer) -> None:
    secret = manifest(sealer, b"a value")
    before, first = sealer.resolve(secret), sealer.pid
    assert first
    os.kill(first, signal.SIGKILL)
    assert sealer.resolve(secret) == before
    assert sealer.pid != first


def test_one_that_does_not_answer_is_killed(key: Path) -> None:
    Sealer.open_or_create(key).close()
    sealer = Sealer(key, SHORT)
    secret = manifest(sealer, b"a value")
    before, first = sealer.resolve(secret), sealer.pid
    assert first
    os.kill(first, signal.SIGSTOP)
    started_s = time.monotonic()
    assert sealer.resolve(secret) == before, "the second try is answered by a new one"
    assert time.monotonic() - started_s < 10
    assert not Path(f"/proc/{first}").exists()
    sealer.close()


def test_a_question_that_fills_the_pipe_ends_too(key: Path) -> None:
    """Nobody reads the other end; the question is larger than what the kernel keeps."""
    Sealer.open_or_create(key).close()
    sealer = Sealer(key, SHORT)
    sealer.recipient_of("org", "project")
    stop = threading.Event()

    def hold() -> None:
        while not stop.is_set():
            if pid := sealer.pid:
                try:
                    os.kill(pid, signal.SIGSTOP)
                except ProcessLookupError:
                    continue

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        with pytest.raises(Transient, match="took longer than"):
            sealer.resolve(SecretManifest(SECRET, {"KEY": "x" * (1 << 20)}, "b" * 40))
    finally:
        stop.set()
        holder.join()
    sealer.close()


def test_a_question_is_bounded(sealer: Sealer) -> None:
    with pytest.raises(Refusal, match="may have"):
        sealer.resolve(SecretManifest(SECRET, {"KEY": "x" * SEALER_LIMITS.request_bytes}, "b" * 40))
    assert sealer.recipient_of("org", "other")


def test_a_new_key_is_taken_and_told(sealer: Sealer, key: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = sealer.recipient_of("org", "project")
    key_file.rotate(key)
    with caplog.at_level("INFO", logger="trueup"):
        assert sealer.recipient_of("org", "project") != old
    assert "the platform's key was read anew" in caplog.text


def test_a_damaged_key_is_refused_at_the_start(key: Path) -> None:
    key.write_text("AGE-SECRET-KEY-1TORN")
    key.chmod(0o600)
    with pytest.raises(Refusal) as refused:
        Sealer.open_or_create(key)
    assert refused.value.code == "key_damaged"
