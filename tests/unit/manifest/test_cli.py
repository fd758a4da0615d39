"""`trueup validate`, `plan` and `secret`: what they print and how they end."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from reconciler.cli.main import main
from reconciler.core.manifest import Scope, read_file, sealed_in
from reconciler.core.model import ResourceId
from reconciler.core.secret_file import SecretManifest
from reconciler.vault import Vault, resolve_offline
from tests.integration.git.repository import SITE, Repository
from tests.unit.planner.trees import app

EXAMPLES = Path(__file__).parents[3] / "examples-repo"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    return code, capsys.readouterr().out


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_the_examples_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(capsys, "validate", str(EXAMPLES))
    assert (code, printed) == (0, f"{EXAMPLES}: 8 resources, all good\n")


def test_validate_says_where_and_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "app.yaml").write_text(app(more="      replicaz: 3\n"))
    (tmp_path / "link.yaml").symlink_to("/etc/passwd")
    code, printed = run(capsys, "validate", str(tmp_path))
    assert code == 1
    assert "app.yaml:10:7: error: spec.processes.web has no field 'replicaz' [unknown_field]\n" in printed
    assert "    did you mean 'replicas'?\n" in printed
    assert "link.yaml: error: not a regular file" in printed
    code, printed = run(capsys, "validate", str(tmp_path), "--output", "json")
    document = json.loads(printed)
    assert (code, document["ok"], len(document["findings"])) == (1, False, 2)


def test_validate_of_nothing_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "validate", str(tmp_path / "nowhere"))[0] == 2


def test_plan_of_a_diff(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.commit(SITE)
    repository.commit({"apps/site/app.yaml": app(more="      replicas: 2\n")}, message="Scale \x1b[31mup")
    code, printed = run(capsys, "plan", "HEAD~1..HEAD", "--repo", str(repository.path))
    assert code == 0
    assert "  ~ update prod/app/site  apps/site/app.yaml:1\n" in printed
    assert "\x1b" not in printed
    code, printed = run(capsys, "plan", "--repo", str(repository.path), "--output", "json")
    document = json.loads(printed)
    assert [each["verb"] for each in document["changes"]] == ["create"] * 4
    assert (code, document["base"], document["commit"]) == (0, "", repository.head())


def test_plan_shows_what_would_be_refused(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.commit(SITE)
    repository.commit({"x.txt": ""}, remove=("apps", "env.yaml"))
    code, printed = run(capsys, "plan", "HEAD~1..", "--repo", str(repository.path))
    assert code == 1
    assert "(tree): error: the tree declares nothing" in printed
    assert "The commit would be refused, and nothing would change: 1 error, 0 warnings" in printed


@pytest.mark.parametrize("arguments", [("nothing..HEAD",), ("HEAD", "--repo", "/nowhere"), ("HEAD", "--path", "../up")])
def test_plan_with_wrong_usage(
    repository: Repository, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    repository.commit(SITE)
    assert run(capsys, "plan", "--repo", str(repository.path), *arguments)[0] == 2


def test_what_seal_prints_is_what_the_platform_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault.open_or_create(tmp_path / "platform.agekey")
    (tmp_path / "key.pem").write_bytes(b"-----BEGIN-----\n\x00\n")
    lines = b"# a comment\n\nGREETING=hello = you\r\nCERT=base64:LS0tCg==\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    where = ("--env", "prod", "--app", "site", "--name", "site-tls", "--state", str(tmp_path))
    project = ("--org", "org", "--project", "project")
    code, printed = run(capsys, "secret", "seal", *where, *project, "-", "--file", f"KEY={tmp_path / 'key.pem'}")
    assert code == 0
    assert "hello" not in printed
    file = read_file(printed.encode(), "secret.yaml", "b", Scope("org", "project"), vault.resolve)
    assert not file.findings
    identity = ResourceId("org", "project", "prod", "site", "secret", "site-tls")
    secret = SecretManifest(identity, sealed_in(printed.encode(), identity).values, "b")
    assert vault.values(secret, vault.resolve(secret).spec.version_id) == {
        "CERT": b"---\n",
        "GREETING": b"hello = you",
        "KEY": b"-----BEGIN-----\n\x00\n",
    }


def test_seal_to_a_recipient_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault.open_or_create(tmp_path / "platform.agekey")
    code, recipient = run(capsys, "secret", "recipient", "--state", str(tmp_path))
    assert (code, recipient) == (0, f"{vault.recipient_of('default', 'default')}\n")
    (tmp_path / "values").write_text("A=1\nB=2\n")
    where = ("--env", "prod", "--app", "site", "--name", "s", "--recipient", recipient.strip())
    code, printed = run(capsys, "secret", "seal", *where, str(tmp_path / "values"), "--output", "json")
    assert (code, sorted(json.loads(printed)["spec"]["values"])) == (0, ["A", "B"])
    file = read_file(printed.encode(), "s.yaml", "b", Scope("o", "p"), resolve_offline)
    assert not file.findings, "JSON is a manifest too"


@pytest.mark.parametrize(
    "content", ["no equals sign hunter2", "lower=hunter2", "A=1\nA=hunter2", "A=base64:hunter2", ""]
)
def test_seal_never_repeats_a_value(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    Vault.open_or_create(tmp_path / "platform.agekey")
    (tmp_path / "values").write_text(content)
    where = ("--env", "prod", "--app", "site", "--name", "s", "--state", str(tmp_path))
    assert main(["secret", "seal", *where, str(tmp_path / "values")]) == 2
    captured = capsys.readouterr()
    assert "hunter2" not in captured.err + captured.out


def test_seal_makes_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "secret", "recipient", "--state", str(tmp_path / "state"))[0] == 2
    assert not (tmp_path / "state").exists()
