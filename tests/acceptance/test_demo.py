"""The acceptance test: what `make demo` tells a new user has to be true."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.acceptance.world import ROOT

DEMO_TIMEOUT_S = 600


@pytest.mark.guest
@pytest.mark.timeout(DEMO_TIMEOUT_S + 30)
def test_the_demo_passes_every_check_and_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "tests.acceptance.demo"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S)
    print(told.stdout, told.stderr)
    last = told.stdout.strip().splitlines()[-1]
    counted = re.fullmatch(r"demo: (\d+) checks passed, (\d+) failed", last)
    assert counted, last
    assert told.returncode == 0
    assert int(counted[2]) == 0
    assert int(counted[1]) >= 40
