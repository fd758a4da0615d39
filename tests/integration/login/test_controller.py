"""A real controller, with an issuer in its settings: what somebody does through it stands in the history as his."""

from __future__ import annotations

from pathlib import Path

from reconciler.settings import ControllerSettings
from tests.acceptance.repository import Repository
from tests.integration.cli.test_controller import controller_running
from tests.integration.login.person import Person
from tests.oidc.issuer import issuing, rule


async def test_the_history_names_whom_the_issuer_vouches_for(
    superuser_url: str, tmp_path: Path, person: Person
) -> None:
    repository = Repository.create(tmp_path)
    repository.write("README", "nothing yet\n")
    repository.push("Begin")
    async with issuing() as issuer:
        settings = ControllerSettings(
            repository=str(repository.origin),
            state=tmp_path / "state",
            listen="127.0.0.1:0",
            database_url=superuser_url,
            oidc=(issuer.settings("corp"),),
            oidc_rules=(rule(groups="ops", may=("read", "admit")),),
        )
        async with controller_running(settings) as url:
            file = tmp_path / "jwt"
            file.write_text(issuer.token())
            who = await person.ask("login", url, "--token-file", str(file))
            assert (who["identity"], who["verbs"]) == ("oidc:corp:ann", ["admit", "read"])
            assert (await person.ask("node", "token", "node-a"))["token"].startswith("join:node:node-a:")
            found = await person.ask("events", "--actor", "oidc:corp:ann")
            assert [event["event_type"] for event in found["events"]] == ["identity.invited"]
            code, _, err = await person.run("suspend", "source/main", "--reason", "x")
            assert code == 3, err
