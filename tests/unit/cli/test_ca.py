"""`trueup ca` without a controller, and its page. Under two controllers: `tests.integration.server.test_rotation`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.certificates.authority import Authority
from reconciler.certificates.folder import AuthorityFolder
from reconciler.certificates.rotation import look, rotate_root
from reconciler.cli import exits
from reconciler.cli.ca_page import page, status
from reconciler.cli.main import main
from reconciler.cli.output import plain

Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TRUEUP_CONTROLLER", "TRUEUP_TOKEN", "TRUEUP_STATE", "TRUEUP_CA_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    Authority.open_or_create(tmp_path / "ca", "fleet.test", datetime.now(UTC))
    return tmp_path


def test_a_whole_rotation_by_exit_codes(state: Path, capsys: Capsys) -> None:
    place = ("--state", str(state))
    assert main(["ca", "drop-root", *place]) == exits.OK, "there is only one"
    assert main(["ca", "rotate-root", *place]) == exits.OK
    assert main(["ca", "rotate-root", *place]) == exits.TRANSIENT
    assert "machines learn of it until" in capsys.readouterr().err
    assert main(["ca", "drop-root", *place]) == exits.GENERIC, "the new one does not issue yet"
    assert main(["ca", "status", *place]) == exits.OK
    told = " ".join(capsys.readouterr().out.split())
    assert "`trueup ca rotate-root` lets it issue after" in told
    assert "it cannot be asked which machines are behind" in told
    assert main(["ca", "rotate-issuer", *place, "--output", "json"]) == exits.OK
    assert json.loads(capsys.readouterr().out)["result"] == "done"


@pytest.mark.parametrize("after", ["5s", "59m"])
def test_without_the_controller_nobody_is_in_a_hurry(state: Path, after: str, capsys: Capsys) -> None:
    assert main(["ca", "rotate-root", "--state", str(state)]) == exits.OK
    assert main(["ca", "rotate-root", "--state", str(state), "--after", after]) != exits.OK
    assert len(AuthorityFolder(state / "ca").bundle()) == 2
    assert look(AuthorityFolder(state / "ca")).coming is not None
    with pytest.raises(SystemExit, match="2"):
        main(["ca", "rotate-root", "--state", str(state), "--after", "1x"])


def test_a_folder_that_is_not_there_or_broken_is_told(state: Path, capsys: Capsys) -> None:
    assert main(["ca", "status", "--ca-folder", str(state / "none")]) == exits.MISSING
    (state / "ca" / "issuing.pem").write_text("torn")
    assert main(["ca", "status", "--state", str(state)]) == exits.GENERIC
    assert "docs/runbooks/certificates.md" in capsys.readouterr().err


def test_only_the_controllers_own_user_changes_it(state: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that root wrote, the controller could not read."""
    before = (state / "ca" / "issuing.key").read_bytes()
    monkeypatch.setattr("os.geteuid", lambda: (state / "ca").stat().st_uid + 1)
    for action in ("rotate-issuer", "rotate-root", "drop-root"):
        assert main(["ca", action, "--state", str(state)]) == exits.AUTH
    assert "run it as the user of the controller" in capsys.readouterr().err
    assert main(["ca", "status", "--state", str(state)]) == exits.OK
    assert (state / "ca" / "issuing.key").read_bytes() == before


def machine(number: int, found: Any, at: datetime, **more: str) -> dict[str, Any]:
    present = {"issuer": status(found, None, "")["issuer"]["name"], "root": status(found, None, "")["roots"][0]["name"]}
    until = (at + timedelta(hours=1)).isoformat()
    named = {"identity_id": f"node/n-{number}", "generation": 1, "certified_at": at.isoformat(), "not_after": until}
    return {**named, **present, **more}


def test_who_is_behind_depends_on_the_step(state: Path) -> None:
    files, now = AuthorityFolder(state / "ca"), datetime.now(UTC)
    found = look(files)
    machines = [machine(1, found, now - timedelta(hours=1)), machine(2, found, now, issuer="a former one")]
    answer = {"issuer": machines[0]["issuer"], "roots": [machines[0]["root"]], "machines": machines, "more": False}
    assert [each["identity_id"] for each in status(found, answer, "")["behind"]] == ["node/n-2"]
    rotate_root(files, now)
    machines[1]["certified_at"] = (now + timedelta(seconds=30)).isoformat()
    document = status(look(files), answer, "")
    assert [each["identity_id"] for each in document["behind"]] == ["node/n-1"], "certified before it was known"
    assert "has not read this folder yet" in plain(page(document))
    many = {**answer, "machines": [machine(number, found, now) for number in range(50)]}
    assert "50 machines, 20 of them" in plain(page(status(look(files), many, "")))
