"""The authority's keys are replaced by `trueup ca` under two real controllers and machines that live, with real TLS.

Certificates live for seconds here, so that a rotation takes seconds instead of hours.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from kit import joining
from kit.control_plane import ControlPlane
from kit.joining import join_fleet, keep_renewed
from kit.machine_identity import MachineIdentity, new_key, trusting
from kit.machine_names import CONTROLLER_HOST
from reconciler.certificates import rotation, signing
from reconciler.certificates.authority import Authority
from reconciler.certificates.folder import AuthorityFolder
from reconciler.certificates.signing import name_of
from reconciler.cli import ca_page
from reconciler.cli.main import main
from reconciler.server import standing, tls
from reconciler.settings import ControllerSettings
from tests.acceptance.repository import Repository
from tests.integration.cli.test_controller import ENVIRONMENT, controller_running, until
from tests.joining import join_token, joined_machine, told

DEADLINE_S = 30.0
NOT_YET = 6
Capsys = pytest.CaptureFixture[str]


@dataclass
class Two:
    """Two controllers with one authority. `a` has it in its state folder."""

    a: Path
    b: Path

    def url(self, state: Path) -> str:
        return told(state, "machines.url")

    async def ca(self, *argv: str) -> int:
        return await asyncio.to_thread(main, ["ca", *argv, "--state", str(self.a)])

    async def authority(self, state: Path) -> Any:
        async with ControlPlane(told(state, "controller.url"), told(state, "operator.token")) as operator:
            return await operator.get_json("/v1/authority")

    async def at_once(self, *argv: str) -> None:
        """As soon as no machine is behind."""

        async def is_done() -> bool:
            code = await self.ca(*argv, "--after", "500ms")
            assert code in (0, NOT_YET)
            return code == 0

        await until(is_done)

    async def agree(self) -> Any:
        """What both controllers say of the authority, once they say the same as the folder."""
        found: Any = None

        async def both() -> bool:
            nonlocal found
            found, other = await self.authority(self.a), await self.authority(self.b)
            parts = ("issuer", "root", "roots", "retired")
            held = Authority(self.a / "ca", "trueup.internal")
            roots = [name_of(each) for each in AuthorityFolder(self.a / "ca").bundle()]
            now = {"issuer": held.issuer, "root": held.root, "retired": sorted(held.retired), "roots": roots}
            return all(found[each] == other[each] for each in parts) and now.items() <= found.items()

        await until(both)
        return found


@pytest_asyncio.fixture
async def two(superuser_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    for name in ("TRUEUP_CONTROLLER", "TRUEUP_TOKEN", "TRUEUP_STATE", "TRUEUP_CA_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(signing, "MACHINE_LIFETIME", timedelta(seconds=4))
    for module in (signing, rotation):
        monkeypatch.setattr(module, "SKEW", timedelta(0))
    monkeypatch.setattr(standing, "STREAM_ALLOWANCE", timedelta(seconds=1))
    monkeypatch.setattr(tls, "AUTHORITY_LOOK_S", 0.1)
    monkeypatch.setattr(ca_page, "PICKED_UP", timedelta(seconds=1.5))
    repository = Repository.create(tmp_path)
    repository.write("env.yaml", ENVIRONMENT)
    repository.push("Begin")
    made = Two(tmp_path / "a", tmp_path / "b")

    def settings(state: Path, **more: Any) -> ControllerSettings:
        named: dict[str, Any] = {
            "repository": str(repository.origin),
            "listen": "127.0.0.1:0",
            "database_url": superuser_url,
        }
        return ControllerSettings(state=state, controller_name=state.name, **named, **more)

    async with controller_running(settings(made.a)):
        shared = {"platform_key_file": made.a / "platform.agekey", "token_key_file": made.a / "token.key"}
        async with controller_running(settings(made.b, ca_folder=made.a / "ca", **shared)):
            yield made


@asynccontextmanager
async def renewing(machine: MachineIdentity, url: str) -> AsyncIterator[None]:
    async with ControlPlane(url, identity=machine) as control_plane:
        task = asyncio.create_task(keep_renewed(machine, url, control_plane, random.Random(1)))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@dataclass
class Stream:
    """An open change stream. `lines`: what came; `over`: it is open no more."""

    lines: list[Any]
    task: asyncio.Task[None]

    @property
    def over(self) -> bool:
        return self.task.done()

    @property
    def reason(self) -> str:
        return str(self.lines[-1].get("reason", "")) if self.lines else ""


@asynccontextmanager
async def streaming(machine: MachineIdentity, url: str) -> AsyncIterator[Stream]:
    lines: list[Any] = []

    async def listen() -> None:
        async with ControlPlane(url, identity=machine) as control_plane:
            async with control_plane.lines("/v1/stream", idle_timeout_s=DEADLINE_S) as stream:
                async for line in stream:
                    lines.append(line)

    made = Stream(lines, asyncio.create_task(listen()))
    try:
        await until(lambda: _true(bool(lines) or made.over))
        assert not made.over, made.task.result()
        yield made
    finally:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)


async def _true(value: bool) -> bool:
    return value


async def shaken_hands(url: str, authority: Authority, roots: str, folder: Path) -> bool:
    """Whether a certificate that `authority` makes now gets in at TLS."""
    machine = MachineIdentity(folder, "node", "node-x")
    key = new_key()
    chain = authority.certify(machine.request(key, authority.domain), "node", "node-x", 1, datetime.now(UTC)).chain
    machine.keep(key, chain, roots)
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(url + "/healthz", ssl=machine.context(), server_hostname=CONTROLLER_HOST) as answer:
                return answer.status == 200
    except (aiohttp.ClientError, ssl.SSLError, OSError):
        return False


async def test_a_new_root_under_machines_that_live_with_their_streams_open(
    two: Two, tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_errors: list[dict[str, Any]] = []
    monkeypatch.setattr(joining._log, "error", lambda message, **more: told_errors.append({"msg": message, **more}))
    living, away = [await joined_machine(two.a, "node", name) for name in ("node-a", "node-b")]
    roots, old = living.bundle(), tmp_path / "former-ca"
    shutil.copytree(two.a / "ca", old)
    former = Authority(old, "trueup.internal")
    async with streaming(living, two.url(two.a)) as stream, renewing(living, two.url(two.b)):
        assert await two.ca("status") == 0
        assert "no rotation is under way" in capsys.readouterr().out
        assert await two.ca("rotate-root", "--after", "500ms") == 0
        assert await two.ca("rotate-root", "--after", "500ms") == NOT_YET
        assert "machines are behind: node/node-a" in capsys.readouterr().err
        assert (await two.agree())["root"] == former.root
        await two.at_once("rotate-root")
        now = await two.agree()
        assert now["root"] != former.root and len(now["roots"]) == 2
        assert await shaken_hands(two.url(two.b), former, roots, tmp_path / "x1") is False, "its roots are the old ones"
        assert await shaken_hands(two.url(two.b), former, living.bundle(), tmp_path / "x2"), "the old root still counts"
        await two.at_once("drop-root")
        now = await two.agree()
        assert len(now["roots"]) == 1
        for state in (two.a, two.b):
            assert not await shaken_hands(two.url(state), former, living.bundle(), tmp_path / f"x-{state.name}")
        await until(lambda: _true(living.bundle() == (two.a / "ca" / "bundle.pem").read_text()))
        capsys.readouterr()
        assert await two.ca("status", "--output", "json") == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["next"], len(document["roots"])) == ("no rotation is under way", 1)
        assert [each["identity_id"] for each in document["behind"]] == ["node/node-b"]
        assert not stream.over, "one and the same stream, through all of it"

        assert datetime.now(UTC) > away.lifetime()[1]
        async with renewing(away, two.url(two.a)):
            await until(lambda: _true(bool(told_errors)))
        assert "leads to no root that is known here" in told_errors[0]["why"]
        assert "`trueup node token node-b`" in told_errors[0]["fix"]
        await join_fleet(away, two.url(two.b), await join_token(two.a, "node", "node-b"))
        async with streaming(away, two.url(two.a)):
            assert not stream.over


async def test_a_stream_lives_while_its_machine_renews_anywhere_and_ends_with_a_word_when_it_does_not(two: Two) -> None:
    renews, sleeps = [await joined_machine(two.a, "node", name) for name in ("node-a", "node-b")]
    first = renews.lifetime()[1]
    async with (
        streaming(renews, two.url(two.a)) as lives,
        streaming(sleeps, two.url(two.a)) as ends,
        renewing(renews, two.url(two.b)),
    ):
        await until(lambda: _true(ends.over))
        assert ends.reason == "certificate_ended"
        assert datetime.now(UTC) > sleeps.lifetime()[1] + standing.STREAM_ALLOWANCE
        await until(lambda: _true(datetime.now(UTC) > first + 3 * standing.STREAM_ALLOWANCE))
        assert not lives.over
        cursor = ends.lines[-2]["cursor"]
        with suppress(Exception):
            async with streaming(sleeps, two.url(two.a)):
                raise AssertionError("with a certificate that has ended")
        async with renewing(sleeps, two.url(two.a)):  # with its key, since it ended
            await until(lambda: _true(datetime.now(UTC) < sleeps.lifetime()[1]))
            async with ControlPlane(two.url(two.b), identity=sleeps) as control_plane:
                async with control_plane.lines("/v1/stream", idle_timeout_s=10, cursor=cursor) as again:
                    assert (await anext(again))["cursor"] == cursor, "it goes on where it was"


async def test_an_issuer_whose_key_was_stolen_is_refused_at_once_by_all_controllers(two: Two, capsys: Capsys) -> None:
    signing.MACHINE_LIFETIME = timedelta(hours=1)
    machine = await joined_machine(two.a, "edge", "edge-a")
    former = (await two.agree())["issuer"]
    assert await two.ca("rotate-issuer") == 0
    assert (await two.agree())["issuer"] != former
    async with streaming(machine, two.url(two.b)) as stream:
        assert await two.ca("rotate-issuer", "--stolen") == 0
        await two.agree()
        assert not stream.over, "that of the issuer before was not stolen"
        renewed = await joined_machine(two.a, "edge", "edge-b")
        async with streaming(renewed, two.url(two.b)) as cut:
            assert await two.ca("rotate-issuer", "--stolen") == 0
            await until(lambda: _true(cut.over))
            assert cut.reason == ""
        async with ControlPlane(two.url(two.a), identity=renewed) as control_plane:
            with pytest.raises(Exception, match="does not count any more: join anew"):
                await control_plane.get_json("/v1/edges/edge-b/plan")
    capsys.readouterr()
    assert await two.ca("status") == 0
    page = capsys.readouterr().out
    assert "RETIRED ISSUERS" in page and "edge/edge-b" in page


async def test_the_listener_shows_the_new_certificate_to_new_connections_only(two: Two) -> None:
    """An open connection is not touched; a client that names no host is handed over as well."""

    async def maker() -> str:
        host, port = two.url(two.a).removeprefix("https://").rsplit(":", 1)
        context = trusting((two.a / "ca" / "bundle.pem").read_text())
        context.check_hostname = False
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        certificate = writer.get_extra_info("peercert")
        writer.close()
        return str(dict(part[0] for part in certificate["issuer"])["commonName"])

    former = await maker()
    assert former == (await two.agree())["issuer"]
    assert await two.ca("rotate-issuer") == 0
    now = await two.agree()
    await until(lambda: _is_other(maker(), former))
    assert await maker() == now["issuer"]


async def _is_other(found: Any, former: str) -> bool:
    return bool(await found != former)
