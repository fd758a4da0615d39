"""docs/LIMITS.md says what the settings are, and the settings are what the server is bounded by."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from reconciler.server.limits import Limits
from reconciler.settings import ControllerSettings

PAGE = (Path(__file__).parents[3] / "docs" / "LIMITS.md").read_text()


def test_the_page_names_every_http_setting_with_its_default() -> None:
    told = {name: float(default) for name, default in re.findall(r"^\| (\w+) \| ([0-9.]+) \|", PAGE, re.MULTILINE)}
    known = {
        each.name: each.default for each in dataclasses.fields(ControllerSettings) if each.name.startswith("http_")
    }
    assert told == {**known, "drain_timeout_s": ControllerSettings(repository="x").drain_timeout_s}


def test_the_settings_defaults_are_those_of_the_server() -> None:
    assert ControllerSettings(repository="x").http_limits == Limits()
    tight = ControllerSettings(repository="x", http_connections_max=10).http_limits
    assert tight.streams_max < tight.connections_max == 10
