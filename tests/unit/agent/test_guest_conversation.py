"""The lines of a guest, the console's last words, and the archive, without a machine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from agent.boot_archive import ARCHIVE_BYTES_MAX, boot_archive
from agent.core.model import Exit
from agent.drivers.vm import console
from agent.drivers.vm.channel import RESEND_S, Conversation
from agent.ports import RootImage
from kit.errors import Refusal
from kit.wire import Mount, SecretRef
from tests.unit.agent.parts import LINK, workload


def test_hello_is_answered_with_the_archive_once() -> None:
    talk = Conversation(archive=b"tar")
    assert talk.hear(b"HELLO 1\n", 0.0) == b"BOOT 3\ntar"
    assert talk.hear(b"HELLO 1\nHELLO 1\n", 1.0) == b"", "a second archive would be read as lines"
    assert talk.hear(b"HELLO 1\n", RESEND_S) == b"BOOT 3\ntar", "the guest gave the first one up"
    assert talk.hear(b"STARTED\n", 9.0) == b""
    assert (talk.state, talk.archive) == ("started", None), "the secret is not kept"
    assert talk.hear(b"HELLO 1\n", 99.0) == b""


def test_lines_may_come_in_pieces() -> None:
    talk = Conversation(archive=b"tar")
    assert talk.hear(b"PONG\nHEL", 0.0) == b""
    assert talk.hear(b"LO 1\n", 0.0) == b"BOOT 3\ntar"
    talk.hear(b"STAR", 0.0)
    talk.begin_anew()
    talk.hear(b"STARTED\n", 0.0)
    assert talk.state == "started"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"EXIT 0", Exit("process_exited", "the process exited with code 0", 0)),
        (b"EXIT 137", Exit("process_exited", "the process was ended by signal 9", 137)),
        (b"FAILED volume_attach_failed no vol0", Exit("volume_attach_failed", "no vol0")),
        (b"FAILED made_up_word oh", Exit("vmm_start_failed", "oh")),
    ],
)
def test_last_words(line: bytes, words: Exit) -> None:
    talk = Conversation(archive=b"tar")
    talk.hear(line + b"\nSTARTED\n", 0.0)
    assert (talk.state, talk.last_words, talk.archive) == ("ended", words, None)


def test_a_process_that_ran_out_of_memory() -> None:
    talk = Conversation()
    talk.hear(b"EXIT 137 oom\n", 0.0)
    assert talk.last_words is not None
    assert (talk.last_words.reason_code, talk.last_words.exit_code) == ("oom_killed", 137)


@pytest.mark.parametrize("nonsense", [b"EXIT", b"EXIT x", b"EXIT 999", b"EXIT -1", b"\xff\xfe\n" * 50, b"A" * 100_000])
def test_nonsense_changes_nothing(nonsense: bytes) -> None:
    talk = Conversation()
    talk.hear(nonsense + b"\n", 0.0)
    assert (talk.state, talk.last_words) == ("silent", None)
    talk.hear(b"A" * 100_000, 0.0)
    assert len(talk._partial) <= 1024


def test_the_console_keeps_the_last_words_for_an_agent_that_was_away(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    assert console.last_words(log) is None
    log.write_bytes(b"trueup: EXIT 1\r\nsaid by the workload\r\ntrueup: EXIT 3\r\n[ 2.5] reboot\r\n")
    assert console.last_words(log) == Exit("process_exited", "the process exited with code 3", 3)


def test_the_console_stays_short(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"x" * console.CONSOLE_BYTES_MAX + b"the end")
    console.keep_short(log)
    assert log.stat().st_size == 0
    assert console.older(log).read_bytes().endswith(b"the end")
    console.keep_short(log)
    assert console.older(log).exists()


IMAGE = RootImage(Path("/r"), ("/bin/site", "--port", "80"), {"PATH": "/bin", "A": "image"}, "5:6", "/srv", "SIGQUIT")


def files_of(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in tar}


def test_the_archive_has_what_the_contract_names() -> None:
    task = workload(environment={"A": "1=2", "B": ""}, mounts=(Mount("x", "/data"), Mount("y", "/ro", read_only=True)))
    files = files_of(boot_archive("i-1_a", task, IMAGE, LINK, (SecretRef("v"), b"S=1\n"), 1234))
    environment = dict(line.split("=", 1) for line in files["boot.env"].decode().splitlines())
    assert environment["hostname"] == "i-1-a"
    assert (environment["address"], environment["gateway"], environment["time"]) == ("fd00::5/64", "fd00::1", "1234")
    assert (environment["user"], environment["workdir"], environment["stop_signal"]) == ("5:6", "/srv", "SIGQUIT")
    assert files["argv"] == b"/bin/site\0--port\x0080\0"
    assert files["environ"] == b"A=1=2\0B=\0PATH=/bin\0"
    assert files["mounts"] == b"vol0 /data rw\nvol1 /ro ro\n"
    assert (files["secret"], files["secret.path"], files["secret.mode"]) == (
        b"S=1\n",
        b"/run/secrets/platform.env",
        b"400",
    )


def test_the_workloads_command_takes_the_place_of_the_images() -> None:
    files = files_of(boot_archive("i", workload(command=("/bin/other",)), IMAGE, LINK, None, 0))
    assert files["argv"] == b"/bin/other\0"
    assert "secret" not in files


@pytest.mark.parametrize(
    "image",
    [
        RootImage(Path("/r"), ("a\0b",)),
        RootImage(Path("/r"), ("a",), workdir="/x\nuser=0:0"),
        RootImage(Path("/r"), ("a" * ARCHIVE_BYTES_MAX,)),
    ],
)
def test_what_would_be_read_otherwise_is_refused(image: RootImage) -> None:
    with pytest.raises(Refusal):
        boot_archive("i", workload(), image, LINK, None, 0)
