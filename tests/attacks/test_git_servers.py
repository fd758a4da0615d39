"""Git servers that mean harm, or are not who they say: nothing changes, nothing leaks, and the reason is told."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from kit.errors import Transient
from reconciler.core.revisions import Source
from reconciler.git.access import Access
from reconciler.git.clone import BareClone, Fetching
from reconciler.git.objects import ObjectStore
from tests.integration.git.repository import SITE, Repository
from tests.integration.git.servers import HttpsServer, SshServer, https_server, make_key, ssh_server

TOKEN = "ghp-canary-Tr0ub4dor"
USER = "x-access-token"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "served" / "site")
    made.commit(SITE)
    return made


@pytest_asyncio.fixture
async def https(repository: Repository, tmp_path: Path) -> AsyncIterator[HttpsServer]:
    async with https_server(repository.path.parent, tmp_path, token=TOKEN) as server:
        yield server


@pytest_asyncio.fixture
async def ssh(tmp_path: Path) -> AsyncIterator[SshServer]:
    async with ssh_server(tmp_path / "sshd") as server:
        yield server


def clone_of(
    tmp_path: Path, url: str, *, timeout_s: float = 20.0, bytes_max: int = 64 << 20, **access: Any
) -> BareClone:
    return BareClone(
        tmp_path / "state", Source("main", "o", "p", url), Fetching(Access(**access), timeout_s, bytes_max)
    )


async def fetched(clone: BareClone) -> str:
    await clone.open()
    return await clone.fetch()


async def refused(clone: BareClone) -> Transient:
    with pytest.raises(Transient) as failed:
        await fetched(clone)
    assert failed.value.code == "source_unreadable"
    assert TOKEN not in str(failed.value)
    return failed.value


def with_token(tmp_path: Path, https: HttpsServer, token: str = TOKEN) -> BareClone:
    (tmp_path / "token").write_text(f"{token}\n")
    url = https.url("site/.git")
    return clone_of(tmp_path, url, token_file=tmp_path / "token", ca_file=https.ca_file)


# --- https ---


async def test_a_token_lets_in_and_stands_in_one_private_file(
    repository: Repository, https: HttpsServer, tmp_path: Path
) -> None:
    clone = with_token(tmp_path, https)
    assert await fetched(clone) == repository.head()
    assert set(https.seen) == {f"{USER}:{TOKEN}"}
    holders = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and TOKEN in path.read_text("latin1")]
    assert [path.name for path in holders] == ["credentials"]
    assert {path.stat().st_mode & 0o777 for path in holders[0].parent.iterdir()} == {0o600}
    assert holders[0].parent.stat().st_mode & 0o777 == 0o700


async def test_the_token_is_on_no_command_line_and_in_no_environment(https: HttpsServer, tmp_path: Path) -> None:
    """Read from /proc while git and its helpers wait for an answer."""
    seen: list[str] = []

    async def look_around(_: web.Request) -> web.Response:
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    text = (process / name).read_text("latin1")
                except OSError:
                    continue
                if str(https.port) in text or str(tmp_path) in text:
                    seen.append(text)
        return web.Response(status=500)

    https.instead = look_around
    await refused(with_token(tmp_path, https))
    assert any("remote-https" in text for text in seen), "git was looked at"
    assert not [text for text in seen if TOKEN in text]


async def test_a_wrong_token_is_told_and_the_operators_file_stays(https: HttpsServer, tmp_path: Path) -> None:
    clone = with_token(tmp_path, https, "wrong")
    assert "does not accept the credentials" in str(await refused(clone))
    (tmp_path / "token").write_text(TOKEN)
    assert await clone.fetch(), "a token that is renewed counts at once"


async def test_a_refused_token_is_not_erased_from_the_shared_file(https: HttpsServer, tmp_path: Path) -> None:
    """git erases what a server refused; the operator's own file is none of its business."""
    shared = tmp_path / "credentials"
    shared.write_text(f"https://me:wrong@localhost:{https.port}\n")
    clone = clone_of(tmp_path, https.url("site/.git"), credentials_file=shared, ca_file=https.ca_file)
    await refused(clone)
    assert "wrong" in shared.read_text()
    shared.write_text(f"https://me:{TOKEN}@localhost:{https.port}\n")
    assert await clone.fetch()


async def test_without_a_token_nobody_is_asked(https: HttpsServer, tmp_path: Path) -> None:
    error = await refused(clone_of(tmp_path, https.url("site/.git"), ca_file=https.ca_file))
    assert "asks for credentials" in str(error)
    assert not https.seen


async def test_a_token_file_that_is_not_there_is_that_sources_trouble(https: HttpsServer, tmp_path: Path) -> None:
    clone = clone_of(tmp_path, https.url("site/.git"), token_file=tmp_path / "gone", ca_file=https.ca_file)
    error = await refused(clone)
    assert str(tmp_path / "gone") in str(error)
    (tmp_path / "gone").write_text("two\nlines")
    assert "one token on one line" in str(await refused(clone))
    assert not https.asked


async def test_a_certificate_of_somebody_else_is_not_trusted(https: HttpsServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    error = await refused(clone_of(tmp_path, https.url("site/.git"), token_file=tmp_path / "token"))
    assert "certificate is not trusted" in str(error)
    assert not https.asked


async def test_a_redirect_takes_no_token_anywhere(https: HttpsServer, repository: Repository, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with https_server(repository.path.parent, other, token=TOKEN) as elsewhere:

        async def send_on(request: web.Request) -> web.Response:
            return web.Response(
                status=302, headers={"Location": elsewhere.url("site/.git") + "/info/refs?" + request.query_string}
            )

        https.instead = send_on
        bundle = tmp_path / "both.pem"
        bundle.write_text(https.ca_file.read_text() + elsewhere.ca_file.read_text())
        clone = with_token(tmp_path, https)
        clone = clone_of(tmp_path, clone.url, token_file=tmp_path / "token", ca_file=bundle)
        error = await refused(clone)
        assert "redirects are not followed" in str(error)
        assert not elsewhere.asked


async def test_two_sources_of_one_host_never_share_a_token(https: HttpsServer, tmp_path: Path) -> None:
    assert await fetched(with_token(tmp_path, https))
    source = Source("other", "o", "p", https.url("site/.git"))
    stranger = BareClone(tmp_path / "state", source, Fetching(Access(ca_file=https.ca_file)))
    before = len(https.seen)
    with pytest.raises(Transient, match="asks for credentials"):
        await fetched(stranger)
    assert len(https.seen) == before
    folder = tmp_path / "state" / "git"
    assert TOKEN in (folder / "main.access" / "credentials").read_text()
    assert (folder / "other.access" / "credentials").read_text() == ""


async def test_a_pack_that_stalls_is_cut_off(https: HttpsServer, tmp_path: Path) -> None:
    """The refs come as they should; what follows never does."""
    real = https._backend

    async def stall(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("git-upload-pack") and b"command=fetch" in await request.read():
            response = web.StreamResponse(headers={"Content-Type": "application/x-git-upload-pack-result"})
            await response.prepare(request)
            await response.write(b"000dpackfile\n")
            await asyncio.sleep(60)
        return await real(request)

    https.instead = stall
    (tmp_path / "token").write_text(TOKEN)
    url = https.url("site/.git")
    clone = clone_of(tmp_path, url, timeout_s=1.5, token_file=tmp_path / "token", ca_file=https.ca_file)
    began = time.monotonic()
    assert "longer than 1.5 s" in str(await refused(clone))
    assert time.monotonic() - began < 8
    https.instead = None
    assert await clone.fetch()


async def test_a_pack_that_never_ends_is_cut_off_by_its_size(https: HttpsServer, tmp_path: Path) -> None:
    """A server that pretends to send a pack of one endless object."""
    real, sent = https._backend, [0]

    async def endless(request: web.Request) -> web.StreamResponse:
        if not (request.path.endswith("git-upload-pack") and b"command=fetch" in await request.read()):
            return await real(request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-git-upload-pack-result"})
        await response.prepare(request)
        await response.write(
            b"000dpackfile\n" + _band(b"PACK\0\0\0\x02\0\0\0\x01" + _blob_header(1 << 40) + b"\x78\x01")
        )
        stored = b"\x00\x00\x80\xff\x7f" + b"x" * 32768
        while request.transport is not None and not request.transport.is_closing() and sent[0] < 256 << 20:
            await response.write(_band(stored))
            await asyncio.sleep(0)
            sent[0] += len(stored)
        return response

    https.instead = endless
    (tmp_path / "token").write_text(TOKEN)
    url = https.url("site/.git")
    clone = clone_of(tmp_path, url, bytes_max=2 << 20, token_file=tmp_path / "token", ca_file=https.ca_file)
    assert "larger than the bound" in str(await refused(clone))
    assert sent[0] < 64 << 20
    https.instead = None
    assert await clone.fetch(), "what was left behind does not stand in the way"
    assert sum(path.stat().st_size for path in clone.path.rglob("*") if path.is_file()) < 1 << 20


async def test_what_is_larger_than_the_bound_changes_nothing(
    repository: Repository, https: HttpsServer, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    url = https.url("site/.git")
    clone = clone_of(tmp_path, url, bytes_max=1 << 20, token_file=tmp_path / "token", ca_file=https.ca_file)
    good = await fetched(clone)
    noise = subprocess.run(["head", "-c", str(3 << 20), "/dev/urandom"], capture_output=True, check=True).stdout
    (repository.path / "film.bin").write_bytes(noise)
    repository.commit()
    assert "larger than the bound" in str(await refused(clone))
    assert ObjectStore(clone.path).resolve("refs/trueup/fetched") == good
    repository.commit(remove=("film.bin",))
    assert "larger than the bound" in str(await refused(clone)), "history counts"


# --- ssh ---


def with_key(tmp_path: Path, ssh: SshServer, repository: Repository, *, known: bool = True, **access: Any) -> BareClone:
    key = tmp_path / "key with 100% of spaces"
    public = make_key(key)
    if known:
        ssh.authorized.write_text(public + "\n")
    access = {"ssh_key_file": key, "host_keys": (ssh.host_key,), **access}
    return clone_of(tmp_path, ssh.url(repository.path), **access)


async def test_a_key_lets_in_to_the_host_that_is_pinned(repository: Repository, ssh: SshServer, tmp_path: Path) -> None:
    assert await fetched(with_key(tmp_path, ssh, repository)) == repository.head()


async def test_a_known_hosts_file_pins_as_well(repository: Repository, ssh: SshServer, tmp_path: Path) -> None:
    hosts = tmp_path / "known hosts"
    hosts.write_text(f"[127.0.0.1]:{ssh.port} {ssh.host_key}\n")
    clone = with_key(tmp_path, ssh, repository, host_keys=(), known_hosts_file=hosts)
    assert await fetched(clone) == repository.head()
    hosts.write_text("")
    assert "host's key is not known" in str(await refused(clone))


async def test_another_host_key_than_the_pinned_one(repository: Repository, ssh: SshServer, tmp_path: Path) -> None:
    """Somebody in between. No key of ours is offered to him."""
    wrong = make_key(tmp_path / "wrong")
    clone = with_key(tmp_path, ssh, repository, host_keys=(wrong,))
    error = await refused(clone)
    assert "another key than the pinned one" in str(error)
    assert "Accepted publickey" not in ssh.log.read_text()


async def test_a_key_that_the_server_does_not_know(repository: Repository, ssh: SshServer, tmp_path: Path) -> None:
    assert "does not accept the key" in str(await refused(with_key(tmp_path, ssh, repository, known=False)))


async def test_a_key_that_others_may_read(repository: Repository, ssh: SshServer, tmp_path: Path) -> None:
    clone = with_key(tmp_path, ssh, repository)
    (tmp_path / "key with 100% of spaces").chmod(0o644)
    assert "others may read the ssh key" in str(await refused(clone))


async def test_no_key_of_an_agent_is_offered(
    repository: Repository, ssh: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent of whoever starts the controller has a key that would let in; the source's own does not."""
    agents = make_key(tmp_path / "agents")
    ssh.authorized.write_text(agents + "\n")
    socket = tmp_path / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        async with asyncio.timeout(10):
            while not socket.exists():
                await asyncio.sleep(0.02)
        subprocess.run(["ssh-add", "-q", str(tmp_path / "agents")], check=True)
        clone = with_key(tmp_path, ssh, repository, known=False)
        assert "does not accept the key" in str(await refused(clone))
    finally:
        agent.terminate()
        agent.wait(10)


async def test_an_ssh_server_that_stalls_is_cut_off(repository: Repository, tmp_path: Path) -> None:
    async with ssh_server(tmp_path / "stalling", forced_command="/bin/sleep 60") as ssh:
        clone = with_key(tmp_path, ssh, repository)
        began = time.monotonic()
        with pytest.raises(Transient, match="longer than 2 s"):
            await clone.open()
            await clone.fetch(timeout_s=2)
        assert time.monotonic() - began < 8


def _band(data: bytes) -> bytes:
    """A packet line of the band that a pack comes on."""
    return f"{len(data) + 5:04x}".encode() + b"\x01" + data


def _blob_header(size: int) -> bytes:
    """An object's type and size as a pack has them."""
    first, size = 0x30 | (size & 15), size >> 4
    out = []
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    return bytes([*out, first])
