"""[[oidc]] and [[oidc_rules]]: what is missing or too wide does not start, and its place is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.errors import Refusal
from kit.settings import load
from reconciler.core.oidc_rules import Rule
from reconciler.settings import ControllerSettings

GOOD = """\
repository = "/repo"

[[oidc]]
name = "github"
issuer = "https://token.actions.githubusercontent.com"
audience = "trueup"

[[oidc_rules]]
issuer = "github"
match = { repository = "acme/infra", ref = ["refs/heads/main", "refs/heads/live"] }
may = ["look"]
org = "acme"
project = "shop"
"""


def loaded(tmp_path: Path, text: str) -> ControllerSettings:
    file = tmp_path / "c.toml"
    file.write_text(text)
    return load(ControllerSettings, argv=["--config", str(file)], environ={}, prog="trueup controller")


def test_tables_become_issuers_and_rules(tmp_path: Path) -> None:
    settings = loaded(tmp_path, GOOD)
    assert settings.oidc[0].accepted_audience == "trueup"
    match = {"repository": ("acme/infra",), "ref": ("refs/heads/main", "refs/heads/live")}
    assert settings.oidc_rules[0].rule == Rule(match, frozenset({"look"}), "acme", "shop")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('audience = "trueup"', "", 'c.toml:3: [[oidc]] "github": audience: is needed, or a client_id'),
        ("https://token", "http://token", 'c.toml:5: [[oidc]] "github": issuer: expected https://'),
        ("https://token", "https://me@token", "issuer: expected https://HOST"),
        ("content.com", "content.com?x=1", "issuer: expected https://HOST"),
        ("https://token.actions.githubusercontent.com", "http://127.0.0.1:1", "issuer: expected https://"),
        ('name = "github"', 'name = "Git Hub"', "name: expected a-z"),
        ('audience = "trueup"', 'audience = "trueup"\nkeys_ttl_s = "1s"', "expected between 1m and 24h"),
        ('audience = "trueup"', 'audience = "trueup"\nlifetime_max_s = "1000h"', "expected between 1m and 168h"),
        ('audience = "trueup"', 'client_id = "x"\nscopes = ["profile"]', "openid has to be one of them"),
        ('audience = "trueup"', 'audience = "trueup"\nbearer = "any"', "expected id_token or access_token"),
        ('may = ["look"]', 'may = ["unseal"]', "expected some of act"),
        ('may = ["look"]', "", "c.toml:8: [[oidc_rules]] number 1: may: is required"),
        (
            'match = { repository = "acme/infra", ref = ["refs/heads/main", "refs/heads/live"] }',
            "match = {}",
            "match: ",
        ),
        ('{ repository = "acme/infra", ref = ["refs/heads/main", "refs/heads/live"] }', '"x"', "expected { name"),
        ('repository = "acme/infra"', "repository = []", "no value of one"),
        ('repository = "acme/infra"', "repository = 7", "expected a list of texts"),
        ('issuer = "github"', 'issuer = "gitlab"', "there is no [[oidc]] 'gitlab'"),
        ("[[oidc_rules]]", GOOD[GOOD.index("[[oidc]]") : GOOD.index("[[oidc_rules]]")] + "[[oidc_rules]]", "2 of them"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(Refusal) as refused:
        loaded(tmp_path, GOOD.replace(old, new))
    assert told in str(refused.value)


def test_http_is_for_loopback_and_only_when_it_is_said(tmp_path: Path) -> None:
    text = GOOD.replace("https://token.actions.githubusercontent.com", "http://127.0.0.1:8080")
    assert loaded(tmp_path, text.replace("audience", "insecure_loopback = true\naudience")).oidc
    elsewhere = text.replace("127.0.0.1", "10.0.0.1").replace("audience", "insecure_loopback = true\naudience")
    with pytest.raises(Refusal, match="expected https://"):
        loaded(tmp_path, elsewhere)
