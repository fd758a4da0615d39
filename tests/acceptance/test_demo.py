"""The acceptance test: what `make demo` tells a new user has to be true, with root and without."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.acceptance.narrator import WIDTH_MAX
from tests.acceptance.world import ROOT

DEMO_TIMEOUT_S = 600
USERS_PATH = "/usr/local/bin:/usr/bin:/bin"  # Debian's for whoever is not root


def tell(*options: str, path: str = "") -> str:
    """What the demo printed; it has to end well, within the width that it promises."""
    environ = {**os.environ, "PATH": path or os.environ["PATH"], "COLUMNS": str(WIDTH_MAX)}
    command = [sys.executable, "-m", "tests.acceptance.demo", *options]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S, env=environ)
    print(told.stdout, told.stderr)
    assert told.returncode == 0
    assert [line for line in told.stdout.splitlines() if len(line) > WIDTH_MAX] == []
    return told.stdout


def checks_passed(told: str) -> int:
    last = told.strip().splitlines()[-1]
    counted = re.fullmatch(r"demo: (\d+) checks passed, 0 failed", last)
    assert counted, last
    return int(counted[1])


@pytest.mark.guest
@pytest.mark.timeout(DEMO_TIMEOUT_S + 30)
def test_the_demo_passes_every_check_and_leaves_nothing_behind() -> None:
    assert checks_passed(tell()) >= 40


@pytest.mark.guest
@pytest.mark.timeout(DEMO_TIMEOUT_S + 30)
def test_a_push_is_served_without_root_too() -> None:
    """The rest of the chapters is the same code behind the same two ports of network and host."""
    told = tell("--no-root", "--chapter", "kill_a_machine", "--chapter", "restart_agent", path=USERS_PATH)
    assert checks_passed(told) >= 15
