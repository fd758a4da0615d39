from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.sources.controllers import Site


@pytest.fixture
def site(
    superuser_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Site:
    for name in ("TRUEUP_CONTROLLER", "TRUEUP_TOKEN", "TRUEUP_STATE", "TRUEUP_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return Site(tmp_path, superuser_url, capsys)
