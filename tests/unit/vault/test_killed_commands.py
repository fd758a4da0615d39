"""kill -9 of the commands that change keys and values, at each thing that they do to the disk, and then once more.

The command runs in a process of its own, which ends itself at the Nth call that touches the folder.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.main import main
from reconciler.vault import key_file, project_identity
from tests.unit.vault.test_secret_commands import Host, host

__all__ = ["host"]
STEPS_MAX = 60
_TOUCHES = ("open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock", "os.fsync")


def killed_at(step: int, folder: Path, *argv: str) -> bool:
    """False: it came to its end before."""
    child = os.fork()
    if child == 0:
        _die_at(step, str(folder))
        os._exit(main(list(argv)))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def _die_at(step: int, folder: str) -> None:
    seen = 0

    def touched(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        paths = (os.fsdecode(each) for each in arguments if isinstance(each, str | bytes | os.PathLike))
        if name in _TOUCHES and (name == "fcntl.flock" or any(each.startswith(folder) for each in paths)):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    def dying(name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        """Also right after it was done: a file that was opened to be written is empty then."""

        def call(*arguments: Any, **more: Any) -> Any:
            done = really(*arguments, **more)
            touched(name, (folder,) if name == "os.fsync" else arguments)
            return done

        return call

    sys.addaudithook(touched)
    for module, name in ((os, "fsync"), (os, "open"), (io, "open")):
        setattr(module, name, dying("os.fsync" if name == "fsync" else "open", getattr(module, name)))


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp")]


def test_a_rotation_is_done_or_not_and_can_be_done_again(host: Host) -> None:
    host.write(A=host.sealed("value"))
    folder = host.path.parent
    killed = {"before": 0, "after": 0}
    for step in range(1, STEPS_MAX):
        before = key_file.read(host.path)
        ended = not killed_at(step, folder, "secret", "rotate-key", *host.options[:2])
        after = key_file.read(host.path)
        assert after.version_key == before.version_key
        assert list(map(str, after.identities))[-len(before.identities) :] == list(map(str, before.identities))
        new = len(after.identities) - len(before.identities)
        assert new in ((1,) if ended else (0, 1))
        assert host.values() == {"A": b"value"}
        if ended:
            break
        killed["after" if new else "before"] += 1
        if len(after.identities) > 5:
            host.run("rewrap", "--vouch", str(host.file))
            host.run("drop-keys", "--keys", str(len(after.identities) - 1), "--vouch")
            assert left_behind(folder) == [], "no copy of a key that was dropped"
    assert ended
    assert killed["before"] >= 4, killed
    assert killed["after"] >= 1, killed
    assert host.path.stat().st_mode & 0o777 == 0o600
    assert left_behind(folder) == []


def test_what_a_killed_rotation_left_is_private_and_goes_with_the_next_change(host: Host) -> None:
    step = 1
    while not left_behind(host.path.parent):
        assert killed_at(step, host.path.parent, "secret", "rotate-key", *host.options[:2])
        step += 1
    (left,) = host.path.parent.glob(".*.tmp")
    assert left.stat().st_mode & 0o777 == 0o600
    host.run("rotate-key")
    assert left_behind(host.path.parent) == []


def test_dropping_is_done_or_not(host: Host) -> None:
    key_file.rotate(host.path)
    host.write(A=host.sealed("value"))
    version = key_file.read(host.path).version_key
    for step in range(1, STEPS_MAX):
        ended = not killed_at(
            step, host.path.parent, "secret", "drop-keys", "--keys", "1", "--vouch", *host.options[:2]
        )
        found = key_file.read(host.path)
        assert found.version_key == version
        assert len(found.identities) in ((1,) if ended else (1, 2))
        assert host.values() == {"A": b"value"}
        if len(found.identities) == 1 and not ended:
            key_file.rotate(host.path)
            host.run("rewrap", "--vouch", str(host.file))
        if ended:
            break
    assert ended


@pytest.mark.parametrize("command", ["rewrap", "rotate"])
def test_a_manifest_is_the_old_or_the_new_one(command: str, host: Host) -> None:
    work = host.file.parent
    argv = ["secret", "rewrap", "--vouch", str(work)]
    if command == "rotate":
        argv = ["secret", "rotate", str(host.file), "A", "--generate", "16"]
    key_file.rotate(host.path)
    old = host.sealed("value", recipient=str(_earlier(host)))
    for step in range(1, STEPS_MAX):
        host.write(A=old)
        ended = not killed_at(step, work, *argv, *host.options)
        assert set(host.values()) == {"A"}
        assert command == "rotate" or host.values() == {"A": b"value"}
        for left in work.glob(".*.tmp"):
            left.unlink()
        if ended:
            break
    assert ended
    assert os.listdir(work) == ["tls.yaml"]


def _earlier(host: Host) -> object:
    return project_identity(key_file.read(host.path).identities[1], "acme", "shop").to_public()
