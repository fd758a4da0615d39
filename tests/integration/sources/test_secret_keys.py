"""Keys of secrets in a running controller: values from before projects had keys, a new platform key, the old one gone.

All the while one instance runs, and is neither replaced nor left without its secrets.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyrage
import pytest

from kit.codec import to_json
from kit.control_plane import ControlPlane
from kit.sealed_file import FORM, Binding, open_file
from kit.wire import Enrolment
from reconciler.core.model import ResourceId
from reconciler.vault import Vault, key_file
from reconciler.vault.sealing import sealed_for
from tests.integration.sources.controllers import Site
from tests.joining import as_machine
from tests.unit.planner.trees import ENVIRONMENT, app

SECRET = ResourceId("acme", "shop", "prod", "site", "secret", "tls")
SCOPE = ("--org", "acme", "--project", "shop")
MANIFEST = """\
# turned every spring
apiVersion: trueup/v1
kind: Secret
metadata: {name: tls, app: site, env: prod}
spec:
  values:
    KEY: |   # of the certificate
"""


class Node:
    """Asks for the secrets of its one instance, as an agent that starts it would."""

    def __init__(self, control_plane: ControlPlane, identity: pyrage.x25519.Identity) -> None:
        self._control_plane = control_plane
        self._identity = identity

    async def instances(self) -> list[Any]:
        return list((await self._control_plane.get_json("/v1/nodes/node-a/plan"))["instances"])

    async def secrets(self) -> bytes:
        (instance,) = await self.instances()
        path = f"/v1/nodes/node-a/instances/{instance['instance_id']}/secret?form={FORM}"
        answer = await self._control_plane.get_json(path)
        binding = Binding("node-a", instance["instance_id"], answer["app"], answer["version_id"])
        return open_file(base64.b64decode(answer["sealed"]), self._identity, binding)


@asynccontextmanager
async def node_of(site: Site) -> AsyncIterator[Node]:
    identity = pyrage.x25519.Identity.generate()
    async with as_machine(site.state, "node", "node-a") as control_plane:
        size = ("fd00:0:0:1::/64", 4 << 30, 2.0, 10 << 30)
        enrolment = Enrolment("node-a", *size, str(identity.to_public()), "tcg", "1")
        await control_plane.post_json("/v1/nodes/node-a/enrol", to_json(enrolment))
        await control_plane.post_json("/v1/nodes/node-a/heartbeat", {})
        yield Node(control_plane, identity)


def manifest(armored: str) -> str:
    return MANIFEST + "".join(f"      {line}\n" for line in armored.strip().splitlines())


def key_path(site: Site) -> Path:
    path = site.state / "platform.agekey"
    key_file.read_or_create(path)
    return path


async def test_from_the_platforms_recipient_over_a_rotation_to_the_old_keys_end(site: Site) -> None:
    path = key_path(site)
    former = str(key_file.read(path).identities[0].to_public())
    repository = site.repository("shop")
    files = {"env.yaml": ENVIRONMENT, "app.yaml": app(more="      secrets: [tls]\n")}
    first = repository.commit({**files, "tls.yaml": manifest(sealed_for(b"canary", SECRET, "KEY", former))})
    work = str(repository.path)

    async def rewrapped() -> None:
        assert "would change" in await site.run("secret", "rewrap", "--check", work, *SCOPE, code=1)
        assert "1 value sealed anew" in await site.run("secret", "rewrap", work, *SCOPE)
        assert "0 values sealed anew" in await site.run("secret", "rewrap", work, *SCOPE)
        text = (repository.path / "tls.yaml").read_text()
        assert text.startswith(MANIFEST)
        await site.until_applied("shop", repository.commit({"tls.yaml": text}))

    async with site.controller(site.table("shop", project="shop", platform_recipient=True)), node_of(site) as node:
        await site.until_applied("shop", first)
        plan = ("plan", first, "--repo", work, "--source", "shop", "--against", "live")
        assert "tls.yaml:7:10: warning: sealed to the platform's recipient of earlier versions" in await site.run(*plan)
        (recorded,) = await site.events("revision.applied")
        assert "secret_platform_recipient" in recorded["payload"]
        while not (planned := await node.instances()):
            await site.until_applied("shop", first)
        assert b"KEY=canary" in await node.secrets()
        await rewrapped()
        assert b"KEY=canary" in await node.secrets()

    async with site.controller(site.table("shop", project="shop")), node_of(site) as node:
        assert b"KEY=canary" in await node.secrets(), "although the blob that it was made from is refused today"
        before = await site.run("secret", "recipient", *SCOPE)
        await site.run("secret", "rotate-key")
        after = await site.run("secret", "recipient", *SCOPE)
        assert before != after
        assert (await site.sources())["shop"]["recipient"] == after.strip(), "the running controller has the new key"
        assert b"KEY=canary" in await node.secrets()
        needed = await site.run("secret", "drop-keys", "--keys", "1", code=5)
        assert "1 versions of secrets need an earlier one: prod/site/secret/tls" in needed
        await rewrapped()
        assert "it holds 1 earlier keys, not 2" in await site.run("secret", "drop-keys", "--keys", "2", code=5)
        await site.run("secret", "drop-keys", "--keys", "1")
        assert b"KEY=canary" in await node.secrets(), "out of the applied commit, since the older blob does not open"
        assert [each["instance_id"] for each in await node.instances()] == [planned[0]["instance_id"]]

    async with site.controller(site.table("shop", project="shop")), node_of(site) as node:
        again = repository.commit({"notes.txt": "nothing that runs"})
        await site.until_applied("shop", again)
        assert b"KEY=canary" in await node.secrets()
    assert len(await site.events("secret.created", "secret.updated")) == 1
    assert len(await site.events("instance.allocated")) == 1


async def test_two_projects_that_accept_one_key_are_a_warning(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    lax = [site.table(name, project=name, platform_recipient=True) for name in ("shop", "blog")]
    async with site.controller(lax[0], site.table("blog", project="blog")):
        assert "several projects accept one key" not in caplog.messages
    async with site.controller(*lax):
        assert "several projects accept one key" in caplog.messages


async def test_a_recipient_is_had_from_the_controller_too(site: Site, tmp_path: Path) -> None:
    """A person without the key asks by source, or by organisation and project; without either he gives it."""
    path = key_path(site)
    site.repository("shop").commit({"env.yaml": ENVIRONMENT})
    async with site.controller(site.table("shop", project="shop")):
        await site.until_source("shop", lambda each: each["applied_commit"])
        url, token = ((site.state / name).read_text().strip() for name in ("controller.url", "operator.token"))
        elsewhere = Site(tmp_path / "elsewhere", "", site.capsys)
        connection = ("--controller", url, "--token", token)
        expected = Vault(path).recipient_of("acme", "shop") + "\n"
        assert await elsewhere.run("secret", "recipient", "--source", "shop", *connection) == expected
        assert await elsewhere.run("secret", "recipient", *SCOPE, *connection) == expected
        told = await elsewhere.run("secret", "recipient", "--source", "shopp", *connection, code=2)
        assert "the controller knows no source shopp" in told
