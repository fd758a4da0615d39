"""What somebody shows is compared with what is known in a time that tells nothing, and never with ==."""

from __future__ import annotations

import ast
import hmac
from pathlib import Path
from typing import Any

import pytest

import reconciler
from reconciler.server.auth import WebhookProof, check_token
from tests.unit.server.world import KEY, WEBHOOK_SECRET, token_of

ROOT = Path(reconciler.__file__).parent
COMPARING = (
    "server/auth.py", "server/standing.py", "server/machines.py", "server/access_tokens.py", "server/guard.py",
    "core/tokens.py", "core/decide/identities.py",
)  # fmt: skip
SECRET_NAMES = ("digest", "mac", "secret", "given", "signature", "hash", "password")


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The lengths of all that is compared."""
    found: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def spy(one: Any, other: Any) -> bool:
        found.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    return found


GOOD = token_of("operator", "ops")
NEARLY = (GOOD[:-1] + "z", GOOD[:-64] + "0" * 64, GOOD.replace("ops", "opt"), GOOD.replace("operator", "nobody"))


@pytest.mark.parametrize("token", [GOOD, *NEARLY])
def test_a_token_is_compared_whole_whatever_is_wrong_with_it(token: str, compared: list[tuple[int, int]]) -> None:
    assert (check_token(KEY, token) is not None) == (token == GOOD)
    assert compared == [(64, 64)]


@pytest.mark.parametrize("signature", ["0" * 64, "f" * 64])
def test_a_webhooks_signature_is_compared_under_every_secret(signature: str, compared: list[tuple[int, int]]) -> None:
    proof = WebhookProof((WEBHOOK_SECRET, b"the next one"), {"X-Hub-Signature-256": f"sha256={signature}"})
    proof.feed(b"{}")
    assert not proof.holds()
    assert compared == [(32, 32)] * 2


def test_no_secret_is_compared_with_an_operator() -> None:
    found = []
    for name in COMPARING:
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.Compare) and any(
                isinstance(each, ast.Eq | ast.NotEq | ast.In) for each in node.ops
            ):
                sides = [ast.unparse(each).lower() for each in (node.left, *node.comparators)]
                last = [side.rpartition(".")[2].rpartition("[")[2].strip("]'\"") for side in sides]
                if any(word in SECRET_NAMES for word in last):
                    found.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    assert found == []
