"""A manifest repository that means harm: trees made by hand, bombs, odd names, links, huge blobs, odd addresses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from kit.codec import to_json
from kit.errors import Refusal, Transient
from reconciler.core.findings import Finding
from reconciler.core.revisions import Source
from reconciler.git.addresses import check_branch, check_source_id, check_url, path_parts
from reconciler.git.clone import BareClone
from reconciler.git.judge import judge, reader_for
from reconciler.git.objects import ObjectStore
from reconciler.vault import resolve_offline
from tests.integration.git.platform import Platform, sync_for
from tests.integration.git.repository import SITE, Repository
from tests.unit.planner.trees import ENVIRONMENT, app, secret

LOST = "0" * 39 + "1"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit(SITE)
    return made


def findings_of(repository: Repository, commit: str, path: str = "") -> tuple[Finding, ...]:
    """As the controller judges the commit."""
    source = Source("main", "org", "project", str(repository.path), path=path)
    objects = ObjectStore(repository.path)
    judged = judge(source, objects, reader_for(source, objects, resolve_offline), head=commit, base="")
    return (*judged.findings, *(finding for held in judged.held for finding in held.findings))


def codes(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.code for finding in findings}


@pytest.mark.parametrize(
    "name", [b"..", b".", b".git", b".GIT", b"a/b.yaml", b"caf\xe9.yaml", b"a\nb.yaml", b"x" * 256 + b".yaml"]
)
def test_names_that_no_manifest_may_have(repository: Repository, name: bytes) -> None:
    commit = repository.commit_tree(repository.tree(("100644", name, repository.blob(ENVIRONMENT))))
    assert codes(findings_of(repository, commit)) == {"name_invalid"}


def test_a_folder_that_is_its_own_parent_by_name(repository: Repository) -> None:
    inner = repository.tree(("100644", b"e.yaml", repository.blob(ENVIRONMENT)))
    commit = repository.commit_tree(repository.tree(("40000", b"..", inner)))
    assert codes(findings_of(repository, commit)) == {"name_invalid"}


def test_two_entries_of_one_name(repository: Repository) -> None:
    one, two = repository.blob(ENVIRONMENT), repository.blob(ENVIRONMENT.replace("prod", "dev"))
    commit = repository.commit_tree(repository.tree(("100644", b"e.yaml", one), ("100644", b"e.yaml", two)))
    assert "name_twice" in codes(findings_of(repository, commit))


def test_links_are_never_followed(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text(ENVIRONMENT)
    link = repository.blob(str(tmp_path / "outside.yaml"))
    commit = repository.commit_tree(repository.tree(("120000", b"e.yaml", link), ("120000", b"folder", link)))
    found = findings_of(repository, commit)
    assert [(each.path, each.severity) for each in found] == [("e.yaml", "error"), ("folder", "warning")]


def test_submodules_are_not_followed(repository: Repository) -> None:
    commit = repository.commit_tree(repository.tree(("160000", b"module", LOST)))
    assert codes(findings_of(repository, commit)) == {"submodule"}


def test_a_dozen_objects_that_describe_a_trillion_paths(repository: Repository) -> None:
    tree = repository.tree(*(("100644", b"f%d.yaml" % n, repository.blob(ENVIRONMENT)) for n in range(10)))
    for _ in range(7):
        tree = repository.tree(*(("40000", b"d%d" % n, tree) for n in range(10)))
    began = time.monotonic()
    assert codes(findings_of(repository, repository.commit_tree(tree))) == {"too_many_entries"}
    for _ in range(5):
        tree = repository.tree(*(("40000", b"d%d" % n, tree) for n in range(10)))
    assert codes(findings_of(repository, repository.commit_tree(tree))) <= {"too_deep", "too_many_entries"}
    assert time.monotonic() - began < 10


def test_folders_beyond_the_bound_of_depth(repository: Repository) -> None:
    tree = repository.tree(("100644", b"e.yaml", repository.blob(ENVIRONMENT)))
    for _ in range(9):
        tree = repository.tree(("40000", b"d", tree))
    assert codes(findings_of(repository, repository.commit_tree(tree))) == {"too_deep"}


def test_the_bound_of_depth_holds_for_a_folder_that_is_known(repository: Repository) -> None:
    """The same subtree once near the root and once too deep: remembering it must not hide the second."""
    deep = repository.tree(("100644", b"e.yaml", repository.blob(ENVIRONMENT)))
    for _ in range(5):
        deep = repository.tree(("40000", b"d", deep))
    buried = deep
    for _ in range(4):
        buried = repository.tree(("40000", b"d", buried))
    commit = repository.commit_tree(repository.tree(("40000", b"a", deep), ("40000", b"b", buried)))
    assert codes(findings_of(repository, commit)) == {"too_deep"}


def test_a_folder_with_a_hundred_thousand_files(repository: Repository) -> None:
    blob = repository.blob(ENVIRONMENT)
    raw = b"".join(b"100644 %06d.txt\0" % n + bytes.fromhex(blob) for n in range(100_000))
    tree = repository.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=raw)
    began = time.monotonic()
    assert codes(findings_of(repository, repository.commit_tree(tree))) <= {"too_many_entries", "tree_too_large"}
    assert time.monotonic() - began < 5


def test_a_large_blob_is_not_read(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"big.yaml": "# " + "x" * (64 << 20)})
    read: list[int] = []
    original = ObjectStore.blob

    def blob(self: ObjectStore, object_id: str, bound_bytes: int) -> bytes:
        content = original(self, object_id, bound_bytes)
        read.append(len(content))
        return content

    monkeypatch.setattr(ObjectStore, "blob", blob)
    found = findings_of(repository, repository.head())
    assert [(each.path, each.code) for each in found] == [("big.yaml", "file_too_large")]
    assert max(read) < 1 << 20


def test_a_missing_object_is_unknown_and_not_absent(repository: Repository) -> None:
    commit = repository.commit_tree(repository.tree(("100644", b"e.yaml", LOST)))
    with pytest.raises(Transient) as failed:
        findings_of(repository, commit)
    assert failed.value.code == "source_unreadable"


def test_hidden_and_foreign_files_are_left_alone(repository: Repository) -> None:
    others = {".github/workflows/ci.yml": "on: push", ".hidden.yaml": "x", "notes.txt": "kind: App", "a.yaml.bak": "["}
    assert not findings_of(repository, repository.commit(others))


def test_a_path_that_is_a_link(repository: Repository) -> None:
    target = repository.blob("apps")
    commit = repository.commit_tree(repository.tree(("120000", b"deploy", target)))
    assert codes(findings_of(repository, commit, path="deploy")) == {"path_missing"}


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/owned",
        "--upload-pack=touch /tmp/owned",
        "-oProxyCommand=touch",
        "ssh://-oProxyCommand=touch/x",
        "ssh://-l@host/x",
        "http://example.com/x.git",
        "git://example.com/x.git",
        "ftp://example.com/x.git",
        "fd::3",
        "https://user:hunter2@example.com/x.git",
        "https:///x",
        "file://host/x",
        "https://example.com/a b",
        "https://example.com/a\nb",
        "",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["/srv/x.git", "file:///srv/x.git", "https://example.com/x.git", "ssh://git@[::1]:22/x.git", "git@host:a/x.git"],
)
def test_addresses_that_are_fine(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "branch", ["-x", "--upload-pack=x", "a..b", "a b", "a:b", "+a", "a/", "a.lock", "a@{1}", "", "*"]
)
def test_branches_that_are_refused(branch: str) -> None:
    with pytest.raises(Refusal):
        check_branch(branch)


@pytest.mark.parametrize("name", ["../up", "a/b", "", "A", ".git", "-x"])
def test_source_names_that_are_refused(name: str) -> None:
    with pytest.raises(Refusal):
        check_source_id(name)


@pytest.mark.parametrize("path", ["../up", "a/../..", "a\\b", "a\x00b"])
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(Refusal):
        path_parts(path)


async def test_hooks_and_configuration_of_the_source_do_not_run(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those of the repository that is followed, nor those of whoever starts the controller."""
    mark = tmp_path / "owned"
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\ntouch {mark}\nexec "$@"\n')
    script.chmod(0o755)
    repository.git("config", "uploadpack.packObjectsHook", str(script))
    repository.git("config", "core.fsmonitor", str(script))
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[core]\n\tsshCommand = {script}\n\tfsmonitor = {script}\n[url "ext::{script} "]\n\tinsteadOf = /\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_SSH", str(script))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    for hook in ("post-checkout", "reference-transaction", "post-upload-pack"):
        (repository.path / ".git" / "hooks").mkdir(exist_ok=True)
        (repository.path / ".git" / "hooks" / hook).symlink_to(script)
    sync = sync_for(Platform(), tmp_path / "state", str(repository.path))
    assert (await sync.step()).result == "applied"
    assert not mark.exists()
    assert not list((tmp_path / "state").rglob("app.yaml")), "nothing is checked out"


async def test_a_hook_in_the_clone_does_not_run(repository: Repository, tmp_path: Path) -> None:
    clone = BareClone(tmp_path / "state", Source("main", "o", "p", str(repository.path)))
    await clone.open()
    hook = clone.path / "hooks" / "reference-transaction"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'owned'}\n")
    hook.chmod(0o755)
    await clone.fetch()
    assert not (tmp_path / "owned").exists()


async def test_a_source_that_stalls_is_cut_off(tmp_path: Path) -> None:
    """A server that accepts and never answers; the whole process group ends."""
    import asyncio

    accepted: list[asyncio.StreamWriter] = []

    async def stall(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        await asyncio.sleep(60)

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    clone = BareClone(tmp_path / "state", Source("main", "o", "p", f"https://127.0.0.1:{port}/x.git"))
    await clone.open()
    began = time.monotonic()
    with pytest.raises(Transient, match="longer than 1 s"):
        await clone.fetch(timeout_s=1)
    assert time.monotonic() - began < 8
    assert accepted
    for writer in accepted:
        writer.close()
    server.close()


async def test_a_lock_that_a_killed_git_left_does_not_block(repository: Repository, tmp_path: Path) -> None:
    clone = BareClone(tmp_path / "state", Source("main", "o", "p", str(repository.path)))
    await clone.open()
    (clone.path / "refs" / "trueup").mkdir(parents=True)
    (clone.path / "refs" / "trueup" / "fetched.lock").touch()
    (clone.path / "packed-refs.lock").touch()
    (clone.path / "objects" / "pack" / "tmp_pack_x").touch()
    assert await clone.fetch() == repository.head()
    assert not list(clone.path.rglob("tmp_pack*"))


def test_no_finding_holds_what_was_meant_to_be_secret(repository: Repository) -> None:
    """Plain values, in every wrong place of a Secret manifest."""
    canary = "Tr0ub4dor-and-3"
    wrong = secret("tls").split("spec:")[0]
    repository.commit(
        {
            "a.yaml": f"{wrong}spec:\n  values:\n    PASSWORD: {canary}\n",
            "b.yaml": f"{wrong}spec:\n  values: {canary}\n",
            "c.yaml": f"{wrong}spec:\n  {canary}: x\n",
            "d.yaml": f"{wrong}spec:\n  values:\n    {canary}: x\n",
            "e.yaml": f"{wrong}spec: {canary}\n",
            "f.yaml": f'{wrong}spec:\n  values:\n    PASSWORD: "{canary}\n',
            "g.yaml": f"{wrong.replace('name: tls', f'name: {canary}')}spec:\n  values: {{}}\n",
            "h.yaml": f"{wrong}{canary}: x\nspec: {{}}\n",
        }
    )
    found = findings_of(repository, repository.head())
    assert {each.path for each in found} >= {f"{letter}.yaml" for letter in "abcdefgh"}
    assert canary not in json.dumps(to_json(found))


def test_a_flood_of_findings_is_bounded(repository: Repository) -> None:
    repository.commit({"many.yaml": "---\n".join(app(f"a{number}", "      wrong: 1\n") for number in range(300))})
    found = findings_of(repository, repository.head())
    assert len(found) == 200
    assert "more findings are not shown" in {each.code: each.message for each in found}["too_many_findings"]
