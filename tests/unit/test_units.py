"""The units of systemd agree with what the programs do when they are stopped, and with how much they may have open."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from kit.open_files import SPARE
from reconciler.server.connections import CANCEL_S
from reconciler.server.limits import Limits
from reconciler.settings import ControllerSettings

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
POSTGRES_S = 10.0


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys of units have capitals
    parser.read(FOLDER / f"trueup-{name}.service")
    return parser


@pytest.mark.parametrize("name", ["controller", "agent", "edge"])
def test_a_stop_is_a_drain_and_an_end_is_a_new_start(name: str) -> None:
    service = unit(name)["Service"]
    assert (service["KillSignal"], service["KillMode"], service["Restart"]) == ("SIGTERM", "process", "always")
    assert service["RestartPreventExitStatus"] == "2", "wrong settings do not become right by waiting"
    assert float(service["TimeoutStopSec"]) >= 30
    assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0", (
        "a Postgres that is away for an hour is no reason to give up"
    )


def test_the_controller_has_time_to_drain_and_files_for_its_connections() -> None:
    service, settings = unit("controller")["Service"], ControllerSettings(repository="x")
    limits = settings.http_limits
    stop_s = limits.drain_notice_s + Limits().drain_timeout_s + 2 * CANCEL_S + settings.drain_timeout_s + POSTGRES_S
    assert float(service["TimeoutStopSec"]) >= stop_s + 15, "and room for a notice"
    assert int(service["LimitNOFILE"]) >= settings.http_connections_max + SPARE
