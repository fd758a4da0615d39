"""The example of docs/MANIFESTS.md is good, in the layout, and becomes what the page says."""

from __future__ import annotations

import re
from pathlib import Path

from reconciler.core.cross_checks import assemble
from reconciler.core.declared import Scope
from reconciler.core.formatting import formatted
from reconciler.core.language.documents import parse_file
from reconciler.core.manifest import read_files
from reconciler.vault import resolve_offline

PAGE = Path(__file__).parents[3] / "docs" / "MANIFESTS.md"
FILES = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL))


def test_the_example() -> None:
    assert set(FILES) == {"environments.yaml", "defaults.yaml", "apps/site/site.yaml", "apps/site/prod.yaml"}
    parsed = [parse_file(text.encode(), path, "0" * 40) for path, text in FILES.items()]
    assembled = assemble(*read_files(parsed, Scope("org", "project"), resolve_offline))
    assert not assembled.findings
    by_name = {key.short: each.spec for key, each in assembled.tree.resources.items()}
    prod, staging = (by_name[f"{env}/app/site"]["processes"]["web"] for env in ("prod", "staging"))
    assert (prod["memory_bytes"], staging["memory_bytes"]) == (256 << 20, 128 << 20)
    assert (prod["health"]["kind"], prod["health"]["interval_s"]) == ("tcp", 5.0)
    assert prod["environment"]["BASE_URL"] == "https://www.example.com/"
    assert prod["environment"]["SHELL_TEXT"] == "${HOME} stays as it is"
    assert (prod["replicas"], staging["replicas"]) == (4, 1)
    assert prod["update"] == {"surge": 2, "drain_grace_s": 10.0, "start_timeout_s": 120.0}
    assert by_name["staging/site/route/site"]["hostname"] == "www.staging.example.com"


def test_it_is_in_the_layout() -> None:
    for text in FILES.values():
        assert formatted(text) == text
