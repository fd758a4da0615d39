"""What the status of a commit says of apps that are held back."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.core.revision_status import revision_status

COMMIT = "c" * 40
FINDING = {"path": "shop.yaml", "line": 10, "column": 7, "message": "no field 'replicaz'", "severity": "error"}
HELD = [
    {"app": "", "findings": [{**FINDING, "path": "x.yaml"}], "files": ["x.yaml"]},
    {"app": "org/project/prod/shop/app/shop", "findings": [FINDING], "files": []},
]


@pytest.mark.parametrize("status", ["applied", "converged"])
def test_a_commit_that_left_an_app_out_is_no_success(status: str) -> None:
    row: dict[str, Any] = {"commit": COMMIT, "status": status, "changes": [], "held": HELD}
    told = revision_status("trueup", row, COMMIT, {}, "")
    assert told.state == "failure"
    assert told.description == f"{status} except app shop and 1 more: shop.yaml:10:7: no field 'replicaz'"
    assert revision_status("trueup", {**row, "held": []}, COMMIT, {}, "").state != "failure"
