"""CI cannot be green over a test that did not run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FINE = "def test_fine(): pass\n"
BODIES = {
    "skipped": "import pytest\n@pytest.mark.skip(reason='no machine')\ndef test_it(): pass\n",
    "xfailed": "import pytest\n@pytest.mark.xfail(reason='some day')\ndef test_it(): assert 0\n",
    "xpassed": "import pytest\n@pytest.mark.xfail(reason='some day')\ndef test_it(): pass\n",
    "a module": "import pytest\npytest.skip('no module', allow_module_level=True)\n",
}


def run(folder: Path, ci: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "tests.no_skips", "-p", "no:cacheprovider", "--rootdir", "."]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("outcome", BODIES)
def test_in_CI_a_test_that_did_not_run_is_a_failure_with_its_name(tmp_path: Path, outcome: str) -> None:
    (tmp_path / "test_some.py").write_text(FINE)
    (tmp_path / "test_other.py").write_text(BODIES[outcome])
    at_ci = run(tmp_path, "true")
    assert at_ci.returncode == 1, at_ci.stdout
    assert "CI skips nothing" in at_ci.stdout
    assert "test_other.py" in at_ci.stdout
    assert run(tmp_path, "").returncode == 0


def test_in_CI_a_run_without_skips_is_green(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(FINE)
    assert run(tmp_path, "true").returncode == 0
