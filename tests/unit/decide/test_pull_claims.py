"""The pull request that a message claims: each forge's own words, and nothing that only looks like them."""

from __future__ import annotations

import time

import pytest

from reconciler.core.pull_claims import pull_request_of


@pytest.mark.parametrize(
    ("message", "claim"),
    [
        ("Merge pull request #12 from dev/topic\n\nAdd the site", "#12"),
        ("Merge pull request 'Add the site' (#7) from dev/topic into main", "#7"),
        ("Merged in topic (pull request #31)\n\nAdd the site", "#31"),
        ("Add the site (#12)", "#12"),
        ("Add the site (#12)\n\n* one\n* two", "#12"),
        ("Merge branch 'topic' into 'main'\n\nAdd the site\n\nSee merge request fleet/site!45", "!45"),
        ("Add the site (!45)", "!45"),
        ("Add the site", ""),
        ("Fix #12", ""),
        ("Add (#12) and more", ""),
        ("Revert it\n\nThis reverts merge request !45 of somebody", ""),
        ("(#123456789012)", ""),
        ("", ""),
    ],
)
def test_what_it_says(message: str, claim: str) -> None:
    assert pull_request_of(message) == claim


@pytest.mark.parametrize(
    "message", ["(#" * 200_000, "Merged in " + "a (" * 100_000, "See merge request " + "a/" * 200_000]
)
def test_no_message_takes_long(message: str) -> None:
    begun_s = time.perf_counter()
    assert pull_request_of(message) == ""
    assert time.perf_counter() - begun_s < 1.0
