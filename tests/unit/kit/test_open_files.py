"""The limit of open files: raised as far as it goes, and said to be too low when it is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource
from kit import logs, open_files
logs.setup(form="json")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 1024))
print(json.dumps([open_files.allow(%d), resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(("connections_max", "warned"), [(500, False), (600, True)])
def test_the_soft_limit_is_raised_and_too_low_a_hard_one_is_told(connections_max: int, warned: bool) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM % connections_max], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(run.stdout.splitlines()[-1]) == [1024, [1024, 1024]]
    assert ("http_connections_max" in run.stderr + "".join(run.stdout.splitlines()[:-1])) == warned
