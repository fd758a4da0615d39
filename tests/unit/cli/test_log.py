"""`trueup log`: the form of its arguments, the pages that it asks for, and what it prints."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from kit.codec import to_json
from reconciler.cli import exits
from reconciler.cli.log import spelled_out
from reconciler.cli.log_history import told
from reconciler.cli.main import main
from reconciler.core.events import NewEvent, newest_version
from reconciler.core.history import Deployments
from tests.integration.git.repository import Repository
from tests.twin import append
from tests.unit.server.world import World, an_entry, serving, token_of, until

OPS = token_of("operator", "ops")
ROOT = Path(__file__).parents[3]


async def run(world: World, *argv: str) -> int:
    return await asyncio.to_thread(main, ["log", *argv, "--controller", world.url, "--token", OPS])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["log"], ["log", "history"]),
        (["log", "abc1234..def5678"], ["log", "history", "abc1234..def5678"]),
        (["log", "--since", "7d"], ["log", "history", "--since", "7d"]),
        (["log", "history", "main"], ["log", "history", "main"]),
        (["log", "verify", "--key", "k"], ["log", "verify", "--key", "k"]),
        (["log", "--help"], ["log", "--help"]),
    ],
)
def test_a_range_is_what_is_no_action(given: list[str], meant: list[str]) -> None:
    assert spelled_out(given) == meant


async def test_the_page_says_what_became_of_each_commit(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        assert await run(world, "-n", "1") == 0
        assert capsys.readouterr().out == (
            "aaaaaaaaaaaa  failed: app/site: it broke\n"
            "  Add the site\n"
            "  Ann <ann@example.org>, 2026-01-01T00:00:00Z\n"
            "  pull request #12 as its message says\n"
            "  brought 2 commits\n"
            "  signed by ann\n"
            "  1 created\n"
            "  except app prod/app/shop: b.yaml:2:3 no such field\n"
            "  1 deployment: 1 failed\n"
            "  events: applied #9\n"
        )
        assert await run(world, "-n", "1", "--output", "json") == 0
        assert json.loads(capsys.readouterr().out)["entries"][0]["outcome"] == "failed"


async def test_it_asks_for_page_after_page_until_it_has_enough() -> None:
    async with serving() as world:
        assert await run(world, "abcdef1..1234567", "--limit", "3", "--path", "apps/") == 0
        asked = [wanted for _, wanted in world.calls]
        assert [(each.start, each.stop, each.path, each.limit) for each in asked] == [
            ("1234567", "abcdef1", "apps", 3),
            ("b" * 40, "abcdef1", "apps", 2),
            ("b" * 40, "abcdef1", "apps", 1),
        ]


async def test_names_are_looked_up_in_a_local_clone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = Repository(tmp_path / "clone")
    first, second = repository.commit({"a": "1"}), repository.commit({"a": "2"})
    async with serving() as world:
        assert await run(world, "HEAD~1..main", "--limit", "1", "--repo", str(repository.path)) == 0
        assert [(each.start, each.stop) for _, each in world.calls] == [(second, first)]
        assert await run(world, "nowhere", "--repo", str(repository.path)) == exits.USAGE
        assert "read the history" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--limit", "0"], ["--since", "soon"]])
async def test_what_makes_no_sense_is_not_asked(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        assert await run(world, *argv) == exits.USAGE
        assert argv[0] in capsys.readouterr().err and world.calls == []


@pytest.mark.parametrize(
    ("more", "heading"),
    [
        ({"outcome": "converged", "seconds": 12.34}, "converged in 12.3 s"),
        (
            {"outcome": "superseded", "superseded_by": "c" * 40, "was": "refused"},
            "superseded by cccccccccccc, was refused",
        ),
        ({"outcome": "superseded", "superseded_by": "c" * 40}, "superseded by cccccccccccc, not looked at by itself"),
        ({"outcome": "waiting"}, "waiting: not looked at yet"),
        ({"outcome": "before"}, "from before the source was followed"),
        ({"outcome": "applied"}, "applied, not converged yet"),
    ],
)
def test_each_outcome_has_its_words(more: dict[str, object], heading: str) -> None:
    assert told(to_json(an_entry(**more)), verbose=False)[0] == f"aaaaaaaaaaaa  {heading}"


def test_the_long_form_names_each_change_finding_and_failure() -> None:
    _, lines = told(to_json(an_entry(changes_omitted=3)), verbose=True)
    assert "create prod/app/site (a.yaml:1)" in lines and "and 3 more changes" in lines
    assert "warning: a.yaml:1:1 m" in lines and "deployment d-1 of prod/app/site failed: x" in lines


def test_a_commit_that_changes_nothing_says_so_and_one_that_nobody_knows_says_nothing() -> None:
    nothing = {"counts": {}, "deployments": Deployments(), "outcome": "converged", "seconds": 0.0}
    assert "no changes" in told(to_json(an_entry(**nothing)), verbose=False)[1]
    unknown = {**nothing, "base": "", "outcome": "before"}
    assert "no changes" not in told(to_json(an_entry(**unknown)), verbose=False)[1]


def revision(what: str, commit: str, **more: object) -> NewEvent:
    told = {"source_id": "main", "commit": commit, "base": "", **more}
    return NewEvent("revision", f"main@{commit}", f"revision.{what}", told, newest_version(f"revision.{what}"))


SEEN = {"author": "Ann <ann@example.org>", "subject": "Add", "commits": 1, "pull_request": ""}
APPLIED = {"author": "", "subject": "", "changes": [], "findings": [], "held": [], "released": [], "signers": []}


async def test_following_shows_each_commit_once_a_command_and_resumes() -> None:
    """Through a connection that is cut: what was told meanwhile is shown once, and nothing twice."""
    a, b = "a" * 40, "c" * 40
    async with serving() as world:
        command = ["log", "--follow", "-n", "1", "--after", "0", "--output", "json", "--controller", world.url]
        following = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "reconciler", *command, "--token", OPS, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert following.stdout is not None

        async def entry() -> None:
            assert following.stdout is not None
            told = json.loads(await asyncio.wait_for(following.stdout.readline(), 20))
            assert told["commit"] == a

        def asked() -> list[str]:
            return [wanted.start for name, wanted in world.calls if name == "history"][1:]

        try:
            await until(lambda: world.streams.open_count == 1)
            counts = dict.fromkeys(("created", "updated", "moved", "removed", "retained", "held"), 0)
            steps = [revision("validated", a, resources=1), revision("planned", a, **counts)]
            applied = revision("applied", a, **APPLIED, signers_omitted=0)
            await append(world.log, "c1", revision("seen", a, **SEEN), *steps, applied)
            await entry()
            assert asked() == [a], "one command is one entry"
            for connection in world.server_connections():
                connection.transport.abort()
            await append(world.log, "c2", revision("seen", b, **SEEN))
            for number in range(6):  # of another source: past the newest event that the entry names
                other = revision("seen", f"{number:040x}", **SEEN, source_id="other")
                await append(world.log, f"other-{number}", other)
            await append(world.log, "c3", revision("converged", a, seconds=1.0))
            await entry()
            assert asked()[:3] == [a, b, a], "what the clone does not say of b is left out"
        finally:
            following.terminate()
            await following.wait()


@pytest.mark.parametrize("argv", [["HEAD", "--follow"], ["--follow", "--until", "1h"], ["--after", "3"]])
async def test_what_cannot_be_followed_is_said_so(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as world:
        assert await run(world, *argv) == exits.USAGE
        said = capsys.readouterr().err
        assert "--follow" in said or "behind RANGE" in said
        assert world.calls == []
