"""Plans on pull requests: a real repository, real clones, the judgement of production; the forge is in memory."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kit.clock import SystemClock
from kit.errors import Refusal, Transient, TrueupError
from kit.wire import Enrolment
from reconciler.core.model import ResourceId
from reconciler.core.pull_comment import UNFINISHED, read_marker
from reconciler.core.pulls import Comment, CommitStatus, PullRequest
from reconciler.core.revisions import Source
from reconciler.git import pull_clone
from reconciler.git.clone import BareClone
from reconciler.git.objects import ObjectStore
from reconciler.git.pull_clone import PullClone
from reconciler.git.signers_file import SignersFile
from reconciler.handlers import Handlers
from reconciler.ids import UlidIds
from reconciler.pull_plan import PullPlan
from reconciler.tasks.git_sync import GitSync
from reconciler.tasks.pull_requests import PullRequests
from reconciler.vault import Vault
from reconciler.vault.sealing import sealed_for
from tests.contracts.forges.fake import FakeForge
from tests.integration.git.repository import SITE, Repository
from tests.integration.git.signing import NOBODY, SignedRepository, signers_file, ssh_person
from tests.twin import MemoryLog, MemoryViews
from tests.unit.planner.trees import ENVIRONMENT, app, route

CANARY = "canary-of-a-secret-51c7"


@dataclass
class AheadClock(SystemClock):
    ahead_s: float = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.ahead_s


@dataclass
class World:
    """A source whose first commit is applied, and its forge."""

    folder: Path
    repository: Repository
    views: MemoryViews
    sync: GitSync
    forge: FakeForge = field(default_factory=FakeForge)
    clock: AheadClock = field(default_factory=AheadClock)
    signers: SignersFile | None = None

    def __post_init__(self) -> None:
        self.pulls = self.restarted()

    def restarted(self) -> PullRequests:
        """A new process: nothing in memory."""
        clone = PullClone(self.sync.branch.clone)
        self.pulls = PullRequests(
            source=self.sync.source,
            forge=self.forge,
            clone=clone,
            plan_for=PullPlan(self.sync.source, clone, self.views, self.clock, self.signers),
            views=self.views,
            clock=self.clock,
            rng=random.Random(1),
        )
        return self.pulls

    def open(
        self, number: int, files: dict[str, str], *, fork: bool = False, message: str = "a change", **more: object
    ) -> str:
        """From where main is now; the work tree goes back to main."""
        git = self.repository.git
        git("checkout", "-q", "-B", f"topic-{number}", str(more.get("since", "main")))
        head = self.repository.commit(files, message=message, remove=more.get("remove", ()))  # type: ignore[arg-type]
        git("checkout", "-q", "main")
        return self.point(number, head, fork=fork)

    def point(self, number: int, head: str, *, fork: bool = False) -> str:
        """As a forge does: the head's ref is in the base repository, also a fork's."""
        self.repository.git("update-ref", f"refs/pull/{number}/head", head)
        self.repository.git("branch", "-qfD", f"topic-{number}") if self._has_topic(number) else None
        self.forge.pulls[number] = PullRequest(number, head, "main", fork, "eve", f"https://forge.test/{number}")
        return head

    def _has_topic(self, number: int) -> bool:
        return bool(self.repository.git("for-each-ref", f"refs/heads/topic-{number}"))

    def comment(self, number: int) -> Comment:
        [found] = self.forge.comments[number]
        return found

    def status(self, head: str) -> CommitStatus:
        found = self.forge.status_of(head, "trueup/plan")
        assert found is not None
        return found


async def world_of(folder: Path, repository: Repository, signers: SignersFile | None = None) -> World:
    """Log and views are the twins, everything else is real; a node has room."""
    source = Source("main", "org", "project", str(repository.path))
    log, clock, rng, ids = MemoryLog(), AheadClock(), random.Random(1), UlidIds()
    views = MemoryViews(log)
    handlers = Handlers(log, views, ids, clock)
    await handlers.register_source(source)
    await handlers.enrol_node(Enrolment("node-a", "fd00::/64", 4 << 30, 4.0, 1 << 40, "age1x", "kvm", "1"))
    resolve = Vault.open_or_create(folder / "state" / "platform.agekey").resolve
    clone = BareClone(folder / "state", source)
    writes = (handlers.see_revision, handlers.submit_revision, handlers.refuse_revision)
    sync = GitSync(source, clone, resolve, log, views, *writes, clock, rng)
    return World(folder, repository, views, sync, clock=clock, signers=signers)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    repository = Repository(tmp_path / "repository")
    repository.commit(SITE)
    made = await world_of(tmp_path, repository)
    await made.sync.step()
    return made


async def test_a_plan_is_told_by_one_comment_and_a_status_that_links_to_it(world: World) -> None:
    head = world.open(1, {"apps/site/route.yaml": route("r", "other"), "apps/b/app.yaml": app("b")})
    await world.pulls.step()
    comment, status = world.comment(1), world.status(head)
    marker = read_marker(comment.body)
    assert marker is not None
    assert (marker.source_id, marker.head) == ("main", head)
    assert "### trueup plan: can be applied" in comment.body
    assert "+ create prod/app/b" in comment.body
    assert "~ update prod/site/route/r" in comment.body
    assert "node-a" in comment.body, "where it would run"
    assert status == CommitStatus("trueup/plan", "success", status.description, comment.url)
    assert status.description.startswith("1 created, 1 changed, ")


async def test_a_restart_says_nothing_again_and_fetches_nothing(world: World) -> None:
    world.open(1, {"apps/b/app.yaml": app("b")})
    await world.pulls.step()
    sent = list(world.forge.sent)
    await world.pulls.step()
    again = world.restarted()
    await again.step()
    assert world.forge.sent == sent
    assert not again.clone.path.exists() or not again.clone._opened


async def test_a_new_head_changes_the_same_comment(world: World) -> None:
    world.open(1, {"apps/b/app.yaml": app("b")})
    await world.pulls.step()
    first = world.comment(1)
    head = world.open(1, {"apps/c/app.yaml": app("c")})
    await world.pulls.step()
    assert world.comment(1).comment_id == first.comment_id
    assert "prod/app/c" in world.comment(1).body
    assert world.status(head).state == "success"


async def test_what_is_planned_is_the_merge_with_the_branch_as_it_is_now(world: World) -> None:
    """The branch went on: what it has done meanwhile is no part of the plan, and nothing of it would be undone."""
    since = world.repository.head()
    head = world.open(1, {"apps/b/app.yaml": app("b")}, since=since)
    world.repository.commit({"apps/c/app.yaml": app("c")})
    await world.sync.step()
    await world.pulls.step()
    assert world.status(head).description == "1 created, 1 instance start"
    assert "create prod/app/c" not in world.comment(1).body
    assert "delete" not in world.comment(1).body


async def test_a_branch_that_moves_without_a_change_of_the_plan_sends_nothing(world: World) -> None:
    world.open(1, {"apps/b/app.yaml": app("b")})
    await world.pulls.step()
    sent = list(world.forge.sent)
    world.repository.commit({"README.md": "words"})
    await world.sync.step()
    await world.pulls.step()
    assert world.forge.sent == sent
    world.repository.commit({"apps/b/app.yaml": app("b")})
    await world.sync.step()
    await world.pulls.step()
    assert "nothing changes" in world.comment(1).body


async def test_a_conflict_is_told_with_its_paths(world: World) -> None:
    since = world.repository.head()
    head = world.open(1, {"apps/site/route.yaml": route("r", "mine")}, since=since)
    world.repository.commit({"apps/site/route.yaml": route("r", "theirs")})
    await world.sync.step()
    await world.pulls.step()
    assert world.status(head).state == "failure"
    assert world.status(head).description == "conflicts with main"
    assert "apps/site/route.yaml" in world.comment(1).body


async def test_a_plan_starts_from_what_is_applied_not_from_a_refused_tip(world: World) -> None:
    bad = ENVIRONMENT.replace("prod}", "prod, nam: x}")
    world.repository.commit({"env.yaml": bad, "apps/b/app.yaml": app("b"), "apps/d/app.yaml": app("d")})
    assert (await world.sync.step()).result == "refused"
    mended = world.open(1, {"env.yaml": ENVIRONMENT})
    not_mended = world.open(2, {"apps/c/app.yaml": app("c")})
    await world.pulls.step()
    assert world.status(mended) == CommitStatus(
        "trueup/plan", "success", "2 created, 2 instances start", world.comment(1).url
    )
    assert world.status(not_mended).state == "failure"
    assert "would be refused" in world.status(not_mended).description
    assert "env.yaml:3:24" in world.comment(2).body


async def test_findings_have_file_line_and_fix(world: World) -> None:
    head = world.open(1, {"apps/site/app.yaml": app(more="      replicaz: 3\n")})
    await world.pulls.step()
    assert "apps/site/app.yaml:10:7: error:" in world.comment(1).body
    assert "would be applied except prod/app/site" in world.comment(1).body
    assert world.status(head).state == "failure"


async def test_what_is_nobodys_own_is_refused(world: World) -> None:
    head = world.open(1, {"env.yaml": ENVIRONMENT.replace("prod}", "prod, nam: x}")})
    await world.pulls.step()
    assert "nothing would change" in world.comment(1).body
    assert world.status(head).state == "failure"


async def test_the_guards_are_those_of_production(world: World) -> None:
    many = {f"apps/a{number}/app.yaml": app(f"a{number}") for number in range(12)}
    world.repository.commit(many)
    await world.sync.step()
    head = world.open(1, {}, remove=tuple(many))
    confirmed = world.open(2, {}, remove=tuple(many), message="Remove them\n\nTrueup-Confirm-Deletions: 12")
    await world.pulls.step()
    assert "too_many_deletions" in world.comment(1).body
    assert world.status(head).state == "failure"
    assert world.status(confirmed).state == "success"


async def test_the_signers_are_the_operators(tmp_path: Path) -> None:
    """Every commit of the pull request has to be signed; the merge that was made here is not asked for a signature, and
    one that looks like it is."""
    alice = ssh_person(tmp_path, "alice")
    repository = SignedRepository(tmp_path / "repository")
    repository.signed(alice, SITE)
    world = await world_of(tmp_path, repository, SignersFile(signers_file(tmp_path, alice)))
    await world.sync.step()
    good, bad = {"apps/b/app.yaml": app("b")}, {"apps/c/app.yaml": app("c")}
    since = repository.head()
    repository.git("checkout", "-q", "-b", "x", since)
    signed = repository.signed(alice, good)
    repository.git("checkout", "-q", "-b", "y", since)
    unsigned = repository.signed(NOBODY, bad)
    repository.git("checkout", "-q", "main")
    repository.signed(alice, {"apps/d/app.yaml": app("d")})
    await world.sync.step()
    world.point(1, signed)
    world.point(2, unsigned, fork=True)
    await world.pulls.step()
    assert world.status(signed).state == "success"
    assert world.status(unsigned).state == "failure"
    assert "signature_missing" in world.comment(2).body
    tip = repository.head()
    forged = repository.git(
        "commit-tree", f"{unsigned}^{{tree}}", "-p", tip, "-p", unsigned, "-m", "Merge pull request 2"
    )
    repository.git("checkout", "-q", "-b", "z")
    on_top = repository.signed(NOBODY, bad)
    world.point(3, forged, fork=True)
    world.point(4, on_top, fork=True)
    await world.pulls.step()
    assert world.status(forged).state == world.status(on_top).state == "failure"


async def test_a_second_signer_that_may_come_with_the_merge_is_a_warning(tmp_path: Path) -> None:
    alice, bob = ssh_person(tmp_path, "alice"), ssh_person(tmp_path, "bob")
    repository = SignedRepository(tmp_path / "repository")
    repository.signed(alice, SITE)
    rule = {"paths": ["apps/site/**"], "signers": 2}
    path = signers_file(tmp_path, alice, bob, rules=[rule], root=repository.head())
    world = await world_of(tmp_path, repository, SignersFile(path))
    await world.sync.step()
    repository.git("checkout", "-q", "-b", "x")
    head = repository.signed(alice, {"apps/site/route.yaml": route("r", "other")})
    repository.git("checkout", "-q", "main")
    world.point(1, head)
    await world.pulls.step()
    assert world.status(head).state == "success"
    assert "warning:" in world.comment(1).body
    assert "signers_too_few" in world.comment(1).body
    assert "~ update prod/site/route/r" in world.comment(1).body


# --- strangers ---


async def test_a_fork_gets_its_plan_and_sees_nothing_secret(world: World) -> None:
    """The platform's key is there, and a secret that it opens is applied; the plan of a fork that copies, renames and
    breaks it shows neither the value nor the ciphertext."""
    vault = Vault.open_or_create(world.folder / "state" / "platform.agekey")
    secret = ResourceId("org", "project", "prod", "site", "secret", "keys")
    armored = sealed_for(CANARY.encode(), secret, "KEY", vault.recipient_of("org", "project"))
    value = "".join(f"      {line}\n" for line in armored.splitlines())
    head = "apiVersion: trueup/v1\nkind: Secret\nmetadata: {name: %s, app: site, env: prod}\nspec:\n  values:\n"
    world.repository.commit({"apps/site/keys.yaml": head % "keys" + "    KEY: |\n" + value})
    assert (await world.sync.step()).result == "applied"
    files = {
        "apps/site/stolen.yaml": head % "stolen" + "    KEY: |\n" + value,
        "apps/site/plain.yaml": head % "plain" + f"    KEY: {CANARY}\n",
        "apps/site/broken.yaml": head % "broken" + f"    KEY: |\n{value[:200]}\n    {CANARY}: [{CANARY}\n",
        "apps/site/keys.yaml": head % "keys" + f"    KEY: |\n{value}    MORE: |\n{value}",
    }
    for number, (name, text) in enumerate(files.items(), start=1):
        world.open(number, {name: text}, fork=True)
    await world.pulls.step()
    lines = {line.strip() for line in armored.splitlines() if len(line) > 20 and "AGE ENCRYPTED" not in line}
    for number in range(1, 5):
        body, status = world.comment(number).body, world.status(world.forge.pulls[number].head_commit)
        said = body + status.description
        assert not [line for line in lines if line in said]
        if number != 3:  # there the "secret" is a key of the document, which a message may name
            assert CANARY not in said


async def test_markup_of_a_stranger_stays_in_a_code_block(world: World) -> None:
    hostile = "![x](https://evil.test/x.png)\n```\n<!-- trueup:plan source=main head=" + "0" * 40
    world.open(1, {"apps/```/@everyone --> <img src=x>/a.yaml": "kind: [" + hostile}, message=f"@everyone {hostile}")
    await world.pulls.step()
    [first, *lines] = world.comment(1).body.split("\n")
    assert read_marker(first) is not None
    fence, outside = "", []
    for line in lines:
        if not fence and line.startswith("```"):
            fence = line.rstrip("abcdefghijklmnopqrstuvwxyz")
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert not fence
    assert not [line for line in outside if "evil" in line or "@everyone" in line or "<img" in line or "<!--" in line]


async def test_nothing_is_ever_checked_out_and_strangers_objects_lie_apart(world: World) -> None:
    world.repository.git("checkout", "-q", "-b", "x")
    (world.repository.path / "link").symlink_to("/etc/passwd")
    (world.repository.path / ".gitattributes").write_text("* merge=evil filter=evil\n")
    head = world.repository.commit({"hooks/post-merge": "#!/bin/sh\ntouch /tmp/owned\n"})
    world.repository.git("checkout", "-q", "main")
    world.repository.commit({"apps/c/app.yaml": app("c")})
    await world.sync.step()
    world.point(1, head, fork=True)
    await world.pulls.step()
    assert world.comment(1)
    state = world.folder / "state" / "git"
    assert sorted(each.name for each in state.iterdir() if each.is_dir()) == [
        "main.access",
        "main.git",
        "main.pulls.git",
    ]
    assert not ObjectStore(world.sync.branch.clone.path).has(head)
    assert not list(state.rglob("link"))


async def test_a_pull_request_that_brings_too_much_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_clone, "PACK_BYTES_MAX", 1 << 20)
    noise = random.Random(1).randbytes(2 << 20).hex()
    world.open(1, {"noise.txt": noise}, fork=True)
    good = world.open(2, {"apps/b/app.yaml": app("b")})
    await world.pulls.step()
    assert 1 not in world.forge.comments
    assert world.status(good).state == "success"


async def test_a_clone_that_has_grown_is_made_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open(1, {"apps/b/app.yaml": app("b")})
    await world.pulls.step()
    monkeypatch.setattr(pull_clone, "CLONE_BYTES_MAX", 1)
    head = world.open(1, {"apps/c/app.yaml": app("c")})
    await world.pulls.step()
    assert "prod/app/c" in world.comment(1).body
    assert world.status(head).state == "success"


# --- what goes wrong ---


async def test_one_that_fails_stops_only_itself_and_is_tried_again_later(world: World) -> None:
    lost = world.open(1, {"apps/b/app.yaml": app("b")})
    good = world.open(2, {"apps/c/app.yaml": app("c")})
    world.repository.git("update-ref", "-d", "refs/pull/1/head")
    await world.pulls.step()
    assert world.status(good).state == "success"
    world.point(1, lost)
    await world.pulls.step()
    assert 1 not in world.forge.comments, "not at once"
    world.clock.ahead_s += 10
    await world.pulls.step()
    assert world.status(lost).state == "success"


async def test_a_bug_met_by_one_does_not_stop_the_others(world: World) -> None:
    world.open(1, {"apps/b/app.yaml": app("b")})
    good = world.open(2, {"apps/c/app.yaml": app("c")})
    planned = world.pulls.plan_for

    async def plan_for(base_commit: str, head_commit: str) -> object:
        if len(world.pulls._tried) == 0:
            raise ZeroDivisionError
        return await planned(base_commit, head_commit)

    world.pulls.plan_for = plan_for  # type: ignore[assignment]
    await world.pulls.step()
    assert world.status(good).state == "success"


async def test_a_forge_that_wants_a_rest_ends_the_pass(world: World) -> None:
    for number in (1, 2, 3):
        world.open(number, {"apps/b/app.yaml": app("b")})
    asked: list[str] = []

    def fail(what: str) -> TrueupError | None:
        asked.append(what)
        return Transient("ask", "no more", code="forge_rate_limited") if what.startswith("find") else None

    world.forge.fail = fail
    with pytest.raises(Transient):
        await world.pulls.step()
    assert asked == ["list", "find 1"]


@pytest.mark.parametrize("lost", ["status", "comment"])
async def test_a_crash_between_comment_and_status_is_made_good(world: World, lost: str) -> None:
    """Whichever call it was that did not come through: after a restart both are there, once."""
    head = world.open(1, {"apps/b/app.yaml": app("b")})
    met = 0

    def fail(what: str) -> TrueupError | None:
        nonlocal met
        met += what.startswith(lost)
        return Refusal("send", "killed") if what.startswith(lost) and (lost == "status" or met == 2) else None

    world.forge.fail = fail
    await world.pulls.step()
    marker = read_marker(world.comment(1).body)
    assert marker is not None
    assert marker.inputs == UNFINISHED
    world.forge.fail = lambda what: None
    await world.restarted().step()
    assert world.status(head).state == "success"
    sent = list(world.forge.sent)
    await world.restarted().step()
    assert world.forge.sent == sent
    assert len(world.forge.comments[1]) == 1


async def test_a_head_that_moved_on_gets_no_plan_of_another(world: World) -> None:
    old = world.open(1, {"apps/b/app.yaml": app("b")})
    world.open(1, {"apps/c/app.yaml": app("c")})
    world.forge.pulls[1] = PullRequest(1, old, "main", False, "eve")
    await world.pulls.step()
    assert world.forge.sent == []


async def test_before_the_first_fetch_there_is_no_plan(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    repository.commit(SITE)
    world = await world_of(tmp_path, repository)
    await world.sync.branch.clone.open()
    world.open(1, {"apps/b/app.yaml": app("b")})
    with pytest.raises(Transient):
        await world.pulls.step()
    assert world.forge.sent == []


async def test_the_loop_wakes_by_look_and_stops(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.tasks.pull_requests.PASS_GAP_S", 0.05)
    world.pulls.interval_s = 3600
    world.open(1, {"apps/b/app.yaml": app("b")})
    stop = asyncio.Event()
    running = asyncio.create_task(world.pulls.run(stop))
    try:
        async with asyncio.timeout(15):
            while 1 not in world.forge.comments:
                await asyncio.sleep(0.02)
            world.open(2, {"apps/c/app.yaml": app("c")})
            world.pulls.look()
            while 2 not in world.forge.comments:
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def test_a_closed_one_is_forgotten(world: World) -> None:
    world.open(1, {"apps/b/app.yaml": app("b")})
    await world.pulls.step()
    assert list(world.pulls._done) == [1]
    del world.forge.pulls[1]
    await world.pulls.step()
    assert world.pulls._done == {}


async def test_many_are_planned_in_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.tasks.pull_requests.PLANS_PER_PASS_MAX", 2)
    for number in (1, 2, 3):
        world.open(number, {f"apps/b{number}/app.yaml": app(f"b{number}")})
    assert await world.pulls.step()
    assert sorted(world.forge.comments) == [1, 2]
    assert not await world.pulls.step()
    assert sorted(world.forge.comments) == [1, 2, 3]
