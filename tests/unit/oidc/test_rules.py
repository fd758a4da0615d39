"""What claims may do: whole values, the first rule that fits, and nothing by default."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.core.oidc_rules import Rule, identity_of, scope_of
from reconciler.core.permission import Scope, Verb

READ: frozenset[Verb] = frozenset({"read"})
OPS = Rule({"groups": ("ops", "sre")}, frozenset({"read", "act"}))
CI = Rule({"repository": ("acme/infra",), "ref": ("refs/heads/main",)}, frozenset({"look"}), "acme", "shop")


def test_without_a_rule_that_fits_there_is_nothing() -> None:
    assert scope_of((), {"groups": ["ops"]}) is None
    assert scope_of((OPS, CI), {}) is None
    assert scope_of((Rule({}, READ),), {"groups": ["ops"]}) is None, "a rule that names no claim fits nobody"


def test_all_claims_of_a_rule_have_to_fit() -> None:
    assert scope_of((CI,), {"repository": "acme/infra", "ref": "refs/heads/main"}) == Scope(
        "acme", "shop", frozenset({"look"})
    )
    assert scope_of((CI,), {"repository": "acme/infra", "ref": "refs/heads/evil"}) is None
    assert scope_of((CI,), {"repository": "acme/infra"}) is None


@pytest.mark.parametrize(
    "groups", ["op", "opsx", "OPS", "ops ", ["op"], [["ops"]], {"ops": True}, None, [None], 1.5, "*", ["dev"], []]
)
def test_a_value_is_compared_as_a_whole(groups: Any) -> None:
    assert scope_of((OPS,), {"groups": groups}) is None


@pytest.mark.parametrize("groups", ["ops", ["dev", "sre"], ["ops"]])
def test_a_list_holds_one_of_the_values(groups: Any) -> None:
    assert scope_of((OPS,), {"groups": groups}) == Scope(verbs=OPS.verbs)


def test_truth_values_and_numbers_are_written_as_in_json() -> None:
    rule = Rule({"email_verified": ("true",), "project_id": ("42",)}, READ)
    assert scope_of((rule,), {"email_verified": True, "project_id": 42}) is not None
    assert scope_of((rule,), {"email_verified": 1, "project_id": 42}) is None


def test_the_first_rule_that_fits_counts_and_one_without_verbs_shuts_out() -> None:
    out = Rule({"sub": ("mallory",)}, frozenset())
    rules = (out, OPS, Rule({"groups": ("ops",)}, READ))
    assert scope_of(rules, {"sub": "mallory", "groups": ["ops"]}) is None
    assert scope_of(rules, {"sub": "ann", "groups": ["ops"]}) == Scope(verbs=OPS.verbs)


@pytest.mark.parametrize("subject", [None, 7, "", "a b", "a\n", "é", "a" * 256, ["ann"]])
def test_a_subject_that_is_no_word_is_nobody(subject: Any) -> None:
    assert identity_of("corp", subject, Scope()) is None


def test_an_identity_names_its_issuer() -> None:
    assert str(identity_of("github", "repo:acme/infra:ref:refs/heads/main", Scope())) == (
        "oidc:github:repo:acme/infra:ref:refs/heads/main"
    )
