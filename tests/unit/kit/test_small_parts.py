"""Backoff, canonical form, files and logs."""

from __future__ import annotations

import io
import json
import logging
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit import logs
from kit.backoff import Backoff
from kit.canonical import canonical_json, digest
from kit.errors import Refusal, Transient
from kit.files import write_atomically
from kit.programs import with_system_folders


def test_backoff_doubles_to_its_cap_with_bounded_jitter() -> None:
    backoff, rng = Backoff(0.1, 30.0, 0.25), random.Random(1)
    delays = [backoff.delay_s(failures, rng) for failures in range(1, 60)]
    for failures, delay in enumerate(delays, start=1):
        bare = min(30.0, 0.1 * 2 ** min(failures - 1, 32))
        assert bare <= delay <= bare * 1.25


def test_equal_documents_have_one_form() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1}) == '{"a":"é","b":1}'.encode()
    assert digest({"a": 1}, length=12) == digest({"a": 1})[:12]
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    write_atomically(target, b"one")
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert target.stat().st_mode & 0o777 == 0o600


def test_an_error_says_whether_a_retry_helps() -> None:
    assert "a retry may help" in str(Transient("read", "no answer"))
    refusal = str(Refusal("read", "it is wrong", fix="mend it"))
    assert "a retry does not help" in refusal
    assert refusal.endswith("To mend it: mend it")


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Programs set logging up once; a test must not leave its set-up to the others."""
    loggers = [logging.getLogger(), logging.getLogger("trueup")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.mark.usefixtures("logging_as_before")
def test_logs_are_json_lines_and_blank_what_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    logs.setup(form="json")
    logs.get("agent").info("started", instance_id="i-1", node_token="canary", detail="x" * 9000)
    line = json.loads(output.getvalue())
    assert line["component"] == "agent"
    assert line["instance_id"] == "i-1"
    assert line["node_token"] == "[blanked]"
    assert len(line["detail"]) < 5000


def test_programs_of_the_system_are_found_behind_what_the_user_has() -> None:
    assert with_system_folders("/home/me/bin:/usr/sbin") == "/home/me/bin:/usr/sbin:/usr/local/sbin:/sbin"
    assert with_system_folders("").endswith(":/usr/local/sbin:/usr/sbin:/sbin")
