"""`trueup log --follow` against a real controller: a commit is shown again whenever something becomes of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.integration.sources.controllers import DEADLINE_S, Site
from tests.unit.planner.trees import ENVIRONMENT, app

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def followed(site: Site, *argv: str) -> AsyncIterator[asyncio.StreamReader]:
    command = ["-m", "reconciler", "log", "--follow", "--output", "json", "--state", str(site.state), *argv]
    following = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert following.stdout is not None
    try:
        yield following.stdout
    finally:
        following.terminate()
        await following.wait()


async def told(lines: asyncio.StreamReader) -> Any:
    return json.loads(await asyncio.wait_for(lines.readline(), DEADLINE_S))


async def test_commits_and_their_outcomes_as_they_happen(site: Site) -> None:
    repository = site.repository("shop")
    first = repository.commit({"env.yaml": ENVIRONMENT}, message="begin")
    async with site.controller(site.table("shop", project="shop")):
        await site.until_source("shop", lambda each: each["applied_status"] == "converged")
        async with followed(site) as lines, followed(site, "--path", "docs") as docs:
            entry = await told(lines)
            assert (entry["commit"], entry["outcome"]) == (first, "converged"), "what there was comes first"
            bad = repository.commit({"bad.yaml": ENVIRONMENT.replace("prod", "bad") + "nonsense: 1\n"}, message="bad")
            entry = await told(lines)
            assert (entry["commit"], entry["outcome"]) == (bad, "refused")
            assert entry["findings"][0]["path"] == "bad.yaml"
            good = repository.commit({"docs/x": "x"}, remove=("bad.yaml",), message="good")
            outcomes: list[Any] = []
            while not outcomes or outcomes[-1]["outcome"] != "converged":
                outcomes.append(await told(lines))
            shown = [(each["commit"], each["outcome"]) for each in outcomes]
            assert {(bad, "superseded"), (good, "converged")} <= set(shown)
            assert len(shown) == len(set(shown)), "nothing is shown again that is as it was"
            entry = await told(docs)
            assert entry["commit"] == good, "the others did not change that path"
            after = max(each["event_id"] for each in outcomes[-1]["events"])
        last = repository.commit({"app.yaml": app()}, message="last")
        await site.until_applied("shop", last)
        async with followed(site, "--after", str(after)) as lines:
            entry = await told(lines)
            assert (entry["commit"], entry["outcome"]) == (last, "applied"), "it goes on where the other one was"
