from __future__ import annotations

from tests.integration.sources.conftest import site

__all__ = ["site"]
