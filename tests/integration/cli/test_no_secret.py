"""L6: no secret in log, tables, WAL, dumps, application logs, plans or what the command line says, not even encrypted.

A real controller with its own Postgres, in a process of its own at the level debug. Two canaries: one goes the right
way and reaches the node; the other is pushed unencrypted by mistake. Then all bytes that came to be are searched, for
them and for the keys that open them, in the forms that somebody might have written them in.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kit.codec import to_json
from kit.control_plane import ControlPlane
from kit.sealed_file import _SUITE, FORM, MAGIC, Binding, _info, _raw, open_file
from kit.wire import Enrolment
from reconciler.cli.main import main
from reconciler.cli.secret import render, seal_manifest
from reconciler.core.tokens import make_token
from reconciler.core.views import PROJECTIONS
from reconciler.store.postgres_binaries import find_programs
from reconciler.store.roles import DATABASE
from reconciler.store.server import SUPERUSER
from reconciler.vault import Vault, key_file, project_identity
from tests.acceptance.programs import Program
from tests.acceptance.repository import Repository
from tests.canary import forms, search
from tests.integration.cli.test_controller import APP, ENVIRONMENT, until
from tests.joining import as_machine
from tests.memory import memory_of

PLAIN = "apiVersion: trueup/v1\nkind: Secret\nmetadata: {name: slip, app: site, env: prod}\nspec:\n  values:\n    KEY: "


@pytest_asyncio.fixture
async def folder() -> AsyncIterator[Path]:
    """Not pytest's: a Postgres that does not run as root has to get through."""
    made = Path(tempfile.mkdtemp(prefix="trueup-canary-"))
    yield made
    shutil.rmtree(made)


def keys_of(path: Path) -> list[bytes]:
    """What is secret of the platform's key: as text, and the numbers themselves; those of the project too."""
    key = key_file.read(path)
    identities = [*key.identities, *(project_identity(each, "default", "default") for each in key.identities)]
    texts = [str(each).lower() for each in identities]
    raw = [_raw(text, "age-secret-key-1") for text in texts]
    words = [form.encode() for text in texts for form in (text[16:], text[16:].upper())]
    return [*words, *(form for each in (*raw, key.version_key) for form in forms(each))]


def lines_of(manifest: str) -> list[bytes]:
    """The ciphertext, less its header, which every age file has."""
    found = [line.strip().encode() for line in manifest.splitlines()]
    return [line for line in found if len(line) == 64 and not line.startswith(b"YWdlLW")]


async def test_L6_a_secret_is_in_nothing_that_the_controller_writes_or_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canary, slip = (f"canary-{secrets.token_hex(24)}" for _ in range(2))
    state, repository = folder / "state", Repository.create(folder)
    state.mkdir(mode=0o700)
    vault = Vault.open_or_create(state / "platform.agekey")
    sealed = render(
        seal_manifest(
            {"PASSWORD": canary.encode()},
            env="prod",
            app="site",
            name="keys",
            recipient=vault.recipient_of("default", "default"),
        )
    )
    opened = [*forms(canary.encode()), *keys_of(state / "platform.agekey")]
    needles = [*opened, *forms(slip.encode()), *lines_of(sealed)]
    assert len(lines_of(sealed)) > 3
    repository.write("env.yaml", ENVIRONMENT)
    repository.write("keys.yaml", sealed)
    repository.write("site.yaml", APP + "      secrets: [keys]\n")
    base = repository.push("Serve the site")
    controller = Program("controller", command_line(repository, state), folder / "controller.log")
    await controller.start()
    said: list[str] = []

    async def told(*argv: str) -> str:
        capsys.readouterr()
        await asyncio.to_thread(main, list(argv))
        found = capsys.readouterr()
        said.append(found.out + found.err)
        return found.out

    try:
        await until(lambda: _true((state / "controller.url").exists()))
        delivered = await deliver(state, canary, said)
        opened += [each for form in delivered.secret for each in forms(form)]
        needles += [*opened, *(each for form in delivered.sealed for each in forms(form))]
        repository.write("slip.yaml", PLAIN + slip + "\n")
        refused = repository.push("By mistake in the clear")
        await until(lambda: _contains(told("why", refused, "--state", str(state)), "slip.yaml"))
        for argv in (["status"], ["events"], ["state"], ["why", "site"], ["why", "app/site"], ["views", "list"]):
            for form in ("table", "json"):
                await told(*argv, "--state", str(state), "--output", form)
        work = str(repository.work)
        await told("plan", f"{base}..{refused}", "--repo", work)
        await told("validate", work)
        assert "slip.yaml" in said[-1]
        said.append(await documents(state, base, refused))
        clone = ["git", "-C", str(state / "git" / "main.git")]
        notes = b""

        async def noted() -> bool:
            nonlocal notes
            command = [*clone, "log", "--notes=trueup", "--format=%N", refused]
            notes = (await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)).stdout
            return b"applied" in notes

        await until(noted)
        objects = await asyncio.to_thread(
            subprocess.check_output, [*clone, "cat-file", "--batch", "--batch-all-objects", "--buffer"]
        )
        dump = await asyncio.to_thread(dumped, state)
        memory = await asyncio.to_thread(memory_of, controller.pid)
        assert refused.encode() in memory, "the controller's memory holds what happened"
        assert search(memory, opened) == [], "neither a value nor a key is in the controller's own memory"
    finally:
        code = await controller.stop()
    assert code == 0, controller.tail()

    assert search(base64.b64encode(b"...." + canary.encode()), needles), "the search finds what is there"
    written = {path: path.read_bytes() for path in (state / "postgres").rglob("*") if path.is_file()}
    texts = {"dump": dump, "application log": controller.log.read_bytes(), "said": "".join(said).encode()}
    assert slip.encode() in objects and lines_of(sealed)[0] in objects, "Git itself has what was pushed"
    beside = {str(path): path.read_bytes() for path in state.rglob("*") if path.is_file() and path not in written}
    beside.pop(str(state / "platform.agekey"))
    found = {name: search(content, opened) for name, content in {**beside, "objects of Git": objects}.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}, "beside the database"
    for name, content in {**texts, "WAL": b"".join(c for path, c in written.items() if "pg_wal" in path.parts)}.items():
        assert refused.encode() in content, f"{name} holds what happened"
    everything: dict[str, bytes] = {
        **{str(path): content for path, content in written.items()},
        **texts,
        "notes": notes,
    }
    found = {name: search(content, needles) for name, content in everything.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}


def command_line(repository: Repository, state: Path) -> list[str]:
    settings = {
        "repository": repository.origin,
        "state": state,
        "listen": "127.0.0.1:0",
        "poll-interval-s": 0.3,
        "log-level": "debug",
        "log-format": "json",
    }
    flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "reconciler", "controller", *flags]


@dataclass(frozen=True)
class Delivered:
    """`secret`: what opens the file, and what it was sealed for; `sealed`: parts of what came over the wire."""

    secret: tuple[bytes, ...]
    sealed: tuple[bytes, ...]


async def deliver(state: Path, canary: str, said: list[str]) -> Delivered:
    """As a node: the secret comes, and can be opened. What else the node is told goes into `said`."""
    identity = pyrage.x25519.Identity.generate()
    async with as_machine(state, "node", "node-a") as node:
        enrolment = Enrolment(
            "node-a", "fd00:0:0:1::/64", 4 << 30, 2.0, 10 << 30, str(identity.to_public()), "tcg", "1"
        )
        await node.post_json("/v1/nodes/node-a/enrol", to_json(enrolment))
        await node.post_json("/v1/nodes/node-a/heartbeat", {})
        plan: Any = {}

        async def is_planned() -> bool:
            nonlocal plan
            plan = await node.get_json("/v1/nodes/node-a/plan")
            return bool(plan["instances"])

        await until(is_planned)
        said.append(json.dumps(plan))
        instance_id = plan["instances"][0]["instance_id"]
        answer = await node.get_json(f"/v1/nodes/node-a/instances/{instance_id}/secret?form={FORM}")
        binding = Binding("node-a", instance_id, answer["app"], answer["version_id"])
        sealed = base64.b64decode(answer["sealed"])
        assert canary.encode() in open_file(sealed, identity, binding), "it came through"
        body = sealed.removeprefix(MAGIC)
        private = X25519PrivateKey.from_private_bytes(_raw(str(identity).lower(), "age-secret-key-1"))
        data_key = _SUITE.decrypt(body[:80], private, info=_info(binding))
        assert len(data_key) == 32
        return Delivered((data_key,), (body[:80], body[80:160]))


async def documents(state: Path, base: str, head: str) -> str:
    """Whatever an operator can ask for."""
    url, key = (state / "controller.url").read_text().strip(), (state / "token.key").read_bytes()
    async with ControlPlane(url, make_token(key, "operator", "me")) as operator:
        views = [await operator.get_json(f"/v1/views/{view}") for view in sorted(PROJECTIONS)]
        paths = [
            "events",
            "status",
            "state",
            "diff?from=1",
            "log?source=main",
            f"plan?source=main&base={base}&head={head}",
        ]
        paths += [f"why?resource={name}" for name in ("node-a", "prod/site/keys", base, head)]
        asked = [await operator.get_json(f"/v1/{path}") for path in paths]
        asked += [await operator.get_json(path) for path in ("/openapi.json", "/healthz", "/readyz")]
        (event,) = [each for each in asked[0]["events"] if each["event_type"] == "delivery.made"]
        assert event["payload"]["identity_id"] == "node/node-a"
        return json.dumps([views, asked])


def dumped(state: Path) -> bytes:
    """A backup as pg_dump makes it, from the running server."""
    programs = find_programs(state / "postgres")
    lines = (state / "postgres" / "postmaster.pid").read_text().splitlines()
    command = [programs.path("pg_dump"), "-h", lines[4], "-U", SUPERUSER, DATABASE]
    return subprocess.run(command, capture_output=True, check=True, **programs.popen_identity()).stdout  # type: ignore[call-overload, no-any-return]  # keyword arguments by name


async def _true(value: bool) -> bool:
    return value


async def _contains(found: Any, wanted: str) -> bool:
    return wanted in await found
