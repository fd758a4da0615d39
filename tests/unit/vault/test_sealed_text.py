"""Other values put into a manifest's text: everything else stays byte by byte, or nothing is changed."""

from __future__ import annotations

import json

import pyrage
import pytest

from kit.errors import Refusal
from reconciler.core.declared import Scope
from reconciler.core.sealed_text import Changes, secrets_in, with_values
from reconciler.vault import seal

SCOPE = Scope("acme", "shop")
NAME = "acme/shop/prod/site/secret/tls"
RECIPIENT = str(pyrage.x25519.Identity.generate().to_public())
OLD, NEW, KEPT = (seal(text, RECIPIENT, armored=True).decode() for text in (b"old" * 60, b"new", b"kept"))


def block(armored: str, margin: str, end: str = "\n") -> str:
    return "".join(f"{margin}{line}{end}" for line in armored.strip().splitlines())


YAML = f"""\
# Who reads this: the site.
apiVersion: trueup/v1
kind: App      # in the same file, and not good without its folder's defaults
metadata: {{name: site, env: prod}}
spec: {{processes: {{}}}}
---
kind: Secret   # sealed
apiVersion: trueup/v1
metadata:
    name: "tls"
    app: site
    env: prod

spec:
    values:
        # the old one
        A:    |-   # turned every year
{block(OLD, " " * 9)}
        # kept
        B: |
          {block(KEPT, " " * 10).strip()}
# the end
"""


def changed(text: str, values: Changes) -> str:
    return with_values(text.encode(), "s.yaml", SCOPE, values).decode()


def values_of(text: str) -> dict[str, str]:
    (found,), findings = secrets_in(text.encode(), "s.yaml", SCOPE)
    assert not findings
    return {key: value.strip() for key, value in found.manifest.values.items()}


def test_a_value_is_replaced_and_nothing_else() -> None:
    after = changed(YAML, {(NAME, "A"): NEW})
    assert after == YAML.replace(block(OLD, " " * 9), block(NEW, " " * 9))
    assert values_of(after) == {"A": NEW.strip(), "B": KEPT.strip()}


def test_several_in_one_file() -> None:
    text = YAML + "---\n" + YAML[YAML.index("kind: Secret") :].replace('"tls"', "other")
    after = changed(text, {(NAME, "A"): NEW, (NAME.replace("tls", "other"), "B"): NEW})
    found, _ = secrets_in(after.encode(), "s.yaml", SCOPE)
    assert [{key: text.strip() for key, text in each.manifest.values.items()} for each in found] == [
        {"A": NEW.strip(), "B": KEPT.strip()},
        {"A": OLD.strip(), "B": NEW.strip()},
    ]


def test_keys_go_and_come() -> None:
    after = changed(YAML, {(NAME, "A"): None, (NAME, "C"): NEW})
    assert values_of(after) == {"B": KEPT.strip(), "C": NEW.strip()}
    assert after.endswith(f"        C: |\n{block(NEW, ' ' * 10)}# the end\n")
    assert "# the old one" in after
    assert changed(after, {(NAME, "C"): None}) == changed(YAML, {(NAME, "A"): None})


def test_the_last_line_may_have_no_end() -> None:
    text = YAML.removesuffix("# the end\n").rstrip("\n")
    assert values_of(changed(text, {(NAME, "B"): NEW, (NAME, "C"): OLD})) == {
        "A": OLD.strip(),
        "B": NEW.strip(),
        "C": OLD.strip(),
    }


def test_json_is_a_manifest_too() -> None:
    document = {
        "apiVersion": "trueup/v1",
        "kind": "Secret",
        "metadata": {"name": "tls", "app": "site", "env": "prod"},
        "spec": {"values": {"A": OLD, "B": KEPT}},
    }
    after = changed(json.dumps(document), {(NAME, "A"): NEW})
    assert json.loads(after) == document | {"spec": {"values": {"A": NEW, "B": KEPT}}}
    with pytest.raises(Refusal, match="not a block of text"):
        changed(json.dumps(document), {(NAME, "A"): None})


def test_line_ends_of_another_system_stay() -> None:
    text = YAML.replace("\n", "\r\n")
    after = changed(text, {(NAME, "A"): NEW, (NAME, "C"): NEW})
    assert after.count("\n") == after.count("\r\n")
    assert values_of(after)["C"] == NEW.strip()


@pytest.mark.parametrize("layout", ["folded", "single quotes", "odd line ends"])
def test_what_cannot_be_done_cleanly_is_not_done(layout: str) -> None:
    text = {
        "folded": YAML.replace("A:    |-   # turned every year", "A: >").replace(
            block(OLD, " " * 9), block(OLD, " " * 9).replace("\n", "\n\n")
        ),
        "single quotes": YAML.replace(
            f"A:    |-   # turned every year\n{block(OLD, ' ' * 9)}",
            "A: '" + OLD.strip().replace("\n", "\n\n          ") + "'\n",
        ),
        "odd line ends": "# one\u2028# two\n" + YAML,
    }[layout]
    assert values_of(text)["A"] == OLD.strip()
    try:
        after = changed(text, {(NAME, "A"): NEW})
    except Refusal as refused:
        assert refused.code == "not_rewritable"
    else:
        assert after == text.replace(block(OLD, " " * 9), block(NEW, " " * 9))


def test_a_secret_with_a_mistake_is_told_and_other_kinds_are_not() -> None:
    _, findings = secrets_in(YAML.replace("    app: site\n", "").encode(), "s.yaml", SCOPE)
    assert any(each.path == "s.yaml" and each.line for each in findings)
    assert secrets_in(YAML.encode(), "s.yaml", SCOPE)[1] == []
