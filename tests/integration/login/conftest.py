"""A person for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli.logins import Logins
from tests.integration.login.person import VARIABLES, Person


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Person:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.chdir(home)
    return Person(Logins(home / "trueup"), capsys)
