"""Fixtures that every test may use, and the rule that CI skips nothing."""

import os

from kit.programs import with_system_folders
from tests.no_skips import pytest_sessionfinish, pytest_terminal_summary
from tests.postgres import cluster, database, store, store_settings, superuser_url

os.environ["PATH"] = with_system_folders(os.environ.get("PATH", ""))  # as the programs under test do at their start

__all__ = [
    "cluster",
    "database",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "store",
    "store_settings",
    "superuser_url",
]
