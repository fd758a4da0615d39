"""Random histories of a real repository, followed by the real Git loop, handlers, scheduler and projections: whatever
people push, each commit is told what became of it, once, and in an order that the table of lifecycles allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.clock import SystemClock
from kit.errors import Transient
from kit.wire import Enrolment, InstanceReport, NodeReport
from reconciler.core.acts import Order, Resume, Suspend
from reconciler.core.history import Wanted
from reconciler.core.lifecycles import REVISION, allowed
from reconciler.core.revisions import Rules, Source
from reconciler.core.scheduler.limits import CONVERGENCE_LIMIT_S
from reconciler.git.clone import BareClone
from reconciler.git.judge import Judged
from reconciler.handlers import Handlers
from reconciler.ids import UlidIds
from reconciler.revision_history import RevisionHistory
from reconciler.tasks.git_sync import GitSync
from reconciler.tasks.git_sync.judging import Judging
from reconciler.tasks.scheduler import Scheduler
from reconciler.vault import resolve_offline
from tests.integration.git.repository import Repository
from tests.integration.tasks.followed import site
from tests.twin import MemoryLog, MemoryViews

BAD = "      replicaz: 3\n"
STEPS = ("good", "broken", "invalid", "words", "merge", "revert", "rewind", "look", "crash", "run", "late", "suspend")
OVER = {"converged", "superseded"}


class Clock(SystemClock):
    ahead_s = 0.0

    def now_s(self) -> float:
        return 1000.0 + self.ahead_s


@dataclass
class Followed:
    """`broken`: the digit of images that never get ready."""

    folder: Path
    log: MemoryLog = field(default_factory=MemoryLog)
    suspended: bool = False
    acts: int = 0
    digits: int = 0
    broken: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.repository = Repository(self.folder / "repository")
        self.views, self.clock = MemoryViews(self.log), Clock()
        self.handlers = Handlers(self.log, self.views, UlidIds(), self.clock)
        self.source = self._source("")
        self.scheduler = Scheduler(self.log, self.views, self.handlers, UlidIds(), self.clock, random.Random(1))
        self.clone = BareClone(self.folder / "state", self.source)
        self.sync = self._sync("")

    def _source(self, rewrite: str) -> Source:
        rules = Rules(on_error="refuse-commit")
        return Source("main", "acme", "shop", str(self.repository.path), accepted_rewrite=rewrite, rules=rules)

    def _sync(self, rewrite: str) -> GitSync:
        source = self._source(rewrite)
        writes = (self.handlers.see_revision, self.handlers.submit_revision, self.handlers.refuse_revision)
        clone = BareClone(self.folder / "state", source)
        return GitSync(source, clone, resolve_offline, self.log, self.views, *writes, self.clock, random.Random(1))

    async def begin(self) -> None:
        await self.handlers.register_source(self.source)
        node = Enrolment("node-a", "fd00::/64", 64 << 30, 64.0, 1 << 40, "age1x", "kvm", "1")
        await self.handlers.enrol_node(node)
        self.repository.commit({"README": "before the source was followed"})
        await self.do("good")
        await self.do("look")

    async def do(self, step: str) -> None:
        await getattr(self, f"_{step}")()

    async def _good(self) -> None:
        self.digits += 1
        self.repository.commit(site(f"{self.digits % 16:x}"), message=f"good {self.digits}")

    async def _broken(self) -> None:
        await self._good()
        self.broken |= {f"{self.digits % 16:x}"}

    async def _invalid(self) -> None:
        self.repository.commit(site(f"{self.digits % 16:x}", more=BAD), message="invalid")

    async def _words(self) -> None:
        self.repository.commit({"README": f"words {self.acts}"}, message="words")

    async def _merge(self) -> None:
        git = self.repository.git
        git("checkout", "-q", "-B", "topic")
        self.repository.commit({"notes": f"{len(self.log.events)}"}, message="on a branch")
        git("checkout", "-q", "main")
        git("merge", "-q", "--no-ff", "topic", "-m", "Merge pull request #5 from dev/topic")

    async def _revert(self) -> None:
        if self.repository.git("rev-list", "--count", "--first-parent", "HEAD") > "2":
            with contextlib.suppress(Exception):
                self.repository.git("revert", "--no-edit", "-m1" if " " in self._parents() else "--no-edit", "HEAD")

    def _parents(self) -> str:
        return self.repository.git("log", "-1", "--format=%P")

    async def _rewind(self) -> None:
        """A force-push to an earlier head, which an operator accepts."""
        row = await self.views.get("sources", "main") or {}
        line = self.repository.git("rev-list", "--first-parent", "HEAD").split()
        if len(line) > 3 and not self.suspended and row.get("applied_commit"):
            self.repository.git("reset", "-q", "--hard", line[1])
            await self._look()
            self.accept(line[1])
            await self._look()
            self.accept("")

    def accept(self, rewrite: str) -> None:
        """An operator restarts the controller and lets this commit replace what was applied."""
        self.sync = self._sync(rewrite)

    async def _look(self) -> None:
        self.sync.look()
        await self.sync.step()

    async def _crash(self) -> None:
        """The controller ends while it judges; another one begins anew."""

        async def ends(*_: Any) -> Judged:
            raise Transient("judge it", "the process is gone")

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Transient):
            patch.setattr(Judging, "judge", ends)
            await self._look()
        self.sync = self._sync("")

    async def _run(self) -> None:
        for _ in range(30):
            before = len(self.log.events)
            for _ in range(2):  # the first only learns of an act that got in between
                await self.scheduler.one_pass()
            for row in (await self.views.snapshot(["instances"])).rows["instances"].values():
                if (status := self._says(row)) != row["status"]:
                    told = InstanceReport(row["instance_id"], row["epoch"], row["counter"] + 1, status, "")
                    await self.handlers.record_node_report(NodeReport("node-a", (told,)))
            if len(self.log.events) == before:
                return

    def _says(self, row: Any) -> Any:
        if row["desired"] != "running":
            return "stopped"
        return "failed" if row["workload"]["image"][-1] in self.broken else "ready"

    async def _late(self) -> None:
        self.clock.ahead_s += CONVERGENCE_LIMIT_S + 1

    async def _suspend(self) -> None:
        self.acts += 1
        act = Resume("source/main") if self.suspended else Suspend("source/main")
        await self.handlers.act(act, Order(f"act-{self.acts}", "b", "user", "operator:ann", "a test", ""))
        self.suspended = not self.suspended

    # --- what has to hold

    def told(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for each in self.log.events:
            if each.aggregate_type == "revision":
                found.setdefault(each.aggregate_id, []).append(each.event_type.partition(".")[2])
        return found

    def _twice(self, key: str) -> list[tuple[Any, Any]]:
        """Neighbours that say the same; another refusal has other reasons."""
        mine = [(each.event_type, each.payload) for each in self.log.events if each.aggregate_id == key]
        return [pair for pair in itertools.pairwise(mine) if pair[0] == pair[1]]

    async def check(self) -> None:
        rows = (await self.views.snapshot(["revisions", "sources"])).rows
        for key, steps in self.told().items():
            ways = list(zip(["", *steps], steps, strict=False))
            assert all(allowed(REVISION, before, after) for before, after in ways), (key, steps)
            assert not self._twice(key), ("told twice", key, steps)
            assert rows["revisions"][key]["status"] == steps[-1]
            lives = "/".join(steps).split("seen")
            for life in lives:
                twice = {step: n for step, n in Counter(life.strip("/").split("/")).items() if step and n > 1}
                assert set(twice) <= {"refused", "validated", "planned"}, (key, steps)
        applied = rows["sources"]["main"]["applied_commit"]
        current = {row["commit"] for row in rows["revisions"].values() if row["status"] in ("applied", "failed")}
        assert current <= {applied}, "only the newest one that was applied is on its way"
        for row in rows["revisions"].values():
            if row["status"] == "superseded":
                assert row["superseded_by"] and row["superseded_by"] != row["commit"]

    async def check_end(self) -> None:
        """After a last good commit: it is true, and every other one is over. Git's history knows each of them."""
        rows = (await self.views.snapshot(["revisions"])).rows["revisions"]
        head = self.repository.head()
        assert rows[f"main@{head}"]["status"] == "converged"
        assert {row["status"] for row in rows.values()} <= OVER
        history = RevisionHistory(self.source, self.clone, self.log, self.views, lambda: head)
        page = await history.page(Wanted(limit=200))
        line = self.repository.git("rev-list", "--first-parent", "HEAD").split()
        assert [each.commit for each in page.entries] == line and page.next is None
        assert [each.outcome for each in page.entries[-1:]] == ["before"]
        for each in page.entries[:-1]:
            assert each.outcome in OVER and f"main@{each.commit}" in rows, each
            assert each.events and each.events[-1].type == f"revision.{each.outcome}"


async def live(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        followed = Followed(Path(folder))
        await followed.begin()
        for step in steps:
            await followed.do(step)
            await followed.check()
        if followed.suspended:
            await followed.do("suspend")
        followed.broken = frozenset()
        await followed.do("good")
        followed.accept(followed.repository.head())  # a rewrite may have ended at a commit that was refused
        for step in ("look", "run", "look", "run"):
            await followed.do(step)
            await followed.check()
        await followed.check_end()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(STEPS), min_size=3, max_size=14))
def test_every_commit_ends_in_one_state_and_is_told_of_it_once(steps: list[str]) -> None:
    asyncio.run(live(steps))


def test_a_long_history_of_everything() -> None:
    steps = [
        "run", "broken", "look", "run", "words", "words", "invalid", "look", "good", "look", "late", "run", "revert",
        "look", "run", "merge", "crash", "look", "rewind", "run", "suspend", "good", "look", "words", "look", "suspend",
        "invalid", "look", "broken", "look", "run", "late", "run",
    ]  # fmt: skip
    asyncio.run(live(steps))
