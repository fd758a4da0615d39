"""`trueup login` with a token: whom it is sent to, where it is kept, which command uses it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.attacks.machines import OPERATOR, Door, door
from tests.integration.login.person import Person
from tests.unit.server.world import serving, token_of


async def made(fleet: Door, *verbs: str) -> str:
    body = {"name": "ann", "verbs": list(verbs), "days": 1}
    return str((await fleet.operator("POST", "/v1/tokens", json=body))["token"])


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What comes on standard input."""
    text = io.StringIO()
    monkeypatch.setattr("sys.stdin", text)
    return text


async def test_the_platforms_own_port_is_trusted_by_its_fingerprint_alone(
    tmp_path: Path, person: Person, typed: io.StringIO
) -> None:
    async with door(tmp_path / "fleet") as fleet:
        file = tmp_path / "token"
        file.write_text(await made(fleet, "read") + "\n")
        code, _, err = await person.run("login", fleet.url, "--token-file", str(file))
        assert code == 1
        assert "of nobody that this system trusts" in err
        assert "--fingerprint" in err
        wrong = "0" * 64
        code, _, err = await person.run("login", fleet.url, "--token-file", str(file), "--fingerprint", wrong)
        assert code == 1
        assert "another fingerprint" in err
        assert person.logins.current() == ""
        right = fleet.authority.fingerprint
        who = await person.ask("login", fleet.url, "--token-file", str(file), "--fingerprint", right)
        assert who["identity"].startswith("token:t-")
        assert who["expires_at"] > "2026"
        assert (await person.ask("whoami"))["verbs"] == ["read"]
        assert person.login(fleet.url).roots == fleet.authority.bundle


async def test_logout_voids_the_token_only_when_that_is_said(tmp_path: Path, person: Person) -> None:
    async with door(tmp_path / "fleet") as fleet:
        file = tmp_path / "token"
        file.write_text(await made(fleet, "read"))
        await person.ask("login", fleet.world.url, "--token-file", str(file))
        _, out, _ = await person.run("logout")
        assert "still good" in out
        await person.ask("login", fleet.world.url, "--token-file", str(file))
        _, out, _ = await person.run("logout", "--revoke-token")
        assert "revoked" in out
        code, _, err = await person.run("login", fleet.world.url, "--token-file", str(file))
        assert code == 3
        assert "valid bearer token" in err
        status, problem, _ = await fleet.world.call("POST", "/v1/logout", OPERATOR)
        assert (status, problem["code"]) == (400, "invalid_argument"), "a keyed token cannot be given back"


async def test_a_token_comes_on_standard_input_and_goes_nowhere_in_the_clear(
    person: Person, typed: io.StringIO
) -> None:
    async with serving() as world:
        typed.write(token_of("operator", "ann") + "\n")
        typed.seek(0)
        assert (await person.ask("login", world.url, "--token-file", "-"))["identity"] == "operator:ann"
    code, _, err = await person.run("login", "http://controller.example:7340", "--token-file", "-")
    assert code == 2
    assert "over http:// everybody" in err


@pytest.mark.parametrize("text", ["", " \n", "two words", "x" * 9000, "é"])
async def test_what_is_no_token_is_sent_to_nobody(person: Person, typed: io.StringIO, text: str) -> None:
    async with serving() as world:
        typed.write(text)
        typed.seek(0)
        assert (await person.run("login", world.url, "--token-file", "-"))[0] == 2


async def test_what_is_named_comes_before_the_login_and_the_login_before_a_folder(
    tmp_path: Path, person: Person, typed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as world:
        typed.write(token_of("operator", "ann"))
        typed.seek(0)
        await person.ask("login", world.url, "--token-file", "-")
        state = Path.cwd() / ".state"
        state.mkdir()
        (state / "controller.url").write_text(world.url)
        (state / "operator.token").write_text(token_of("operator", "local"))
        assert (await person.ask("whoami"))["identity"] == "operator:ann"
        assert (await person.ask("whoami", "--controller", world.url + "/"))["identity"] == "operator:ann"
        assert (await person.ask("whoami", "--state", str(state)))["identity"] == "operator:local"
        assert (await person.ask("whoami", "--token", token_of("operator", "x")))["identity"] == "operator:x"
        monkeypatch.setenv("TRUEUP_TOKEN", token_of("operator", "env"))
        assert (await person.ask("whoami"))["identity"] == "operator:env"
        monkeypatch.delenv("TRUEUP_TOKEN")
        (person.logins.path(world.url)).chmod(0o644)
        code, _, err = await person.run("whoami")
        assert code == 3
        assert "others may read it" in err
        person.logins.path(world.url).chmod(0o600)
        person.logins.path(world.url).write_text("{")
        code, _, err = await person.run("whoami")
        assert code == 3
        assert "damaged" in err


async def test_a_login_is_only_shown_to_its_own_controller(person: Person, typed: io.StringIO) -> None:
    async with serving() as mine, serving() as other:
        typed.write(token_of("operator", "ann"))
        typed.seek(0)
        await person.ask("login", mine.url, "--token-file", "-")
        code, _, err = await person.run("whoami", "--controller", other.url)
        assert code == 3
        assert "operator.token cannot be read" in err


async def test_roots_can_be_given_without_a_login(
    tmp_path: Path, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with door(tmp_path / "fleet") as fleet:
        monkeypatch.setenv("TRUEUP_TOKEN", await made(fleet, "read"))
        roots = str(fleet.authority.folder / "bundle.pem")
        assert (await person.ask("whoami", "--controller", fleet.url, "--roots", roots))["verbs"] == ["read"]
        assert (await person.run("whoami", "--controller", fleet.url))[0] != 0
