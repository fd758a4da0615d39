"""With CI=true a test that was skipped, or that may fail, makes the run fail. pytest calls this through `conftest`.

What a skipped test promises nobody has checked, and a skip is easy to overlook: the machine of CI has all it takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

NOT_RUN = ("skipped", "xfailed", "xpassed")


def _not_run(config: pytest.Config) -> Iterator[str]:
    """One line for each test that proved nothing."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("CI", "").lower() not in ("true", "1"):
        return
    for outcome in NOT_RUN:
        for report in reporter.stats.get(outcome, ()):
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
            yield f"{outcome}: {report.nodeid}: {why}"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK and any(_not_run(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := list(_not_run(config)):
        terminalreporter.section("CI skips nothing, so this run fails", red=True)
        for line in lines:
            terminalreporter.line(line)
