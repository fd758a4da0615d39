"""A secret that nobody has ever seen before, in every place where a client may put one: it is in no line of the log and
in no problem, whatever it is made of.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from yarl import URL

from kit import logs
from kit.errors import Bug, Refusal, Transient
from kit.redaction import redacted
from reconciler.server.limits import Limits, Rate
from tests.attacks.knocking import said
from tests.unit.server.world import World, enrol_node, enrolment, serving, token_of

SECRETS = st.one_of(
    st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=20, max_size=60),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-._~+/=", min_size=24, max_size=60).filter(str.isascii),
    st.binary(min_size=16, max_size=32).map(bytes.hex),
)  # fmt: skip
NODE, OPS = token_of("node", "node-a"), token_of("operator", "ops")


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """All that is written, at the lowest level and with every traceback."""
    out, real = io.StringIO(), sys.stderr
    handlers, level = list(logging.getLogger().handlers), logging.getLogger("trueup").level
    sys.stderr = out
    logs.setup(level="debug", form="json")
    try:
        yield out
    finally:
        sys.stderr = real
        logging.getLogger().handlers[:] = handlers
        logging.getLogger("trueup").setLevel(level)


async def put_everywhere(world: World, secret: str) -> str:
    """What came back."""
    back = []

    async def send(method: str, path: str, token: str = "", **more: Any) -> None:
        assert world.session is not None
        headers = {**({"Authorization": token} if token else {}), **more.pop("headers", {})}
        url = URL(world.url + path, encoded=True)
        async with world.session.request(method, url, headers=headers, **more) as answer:
            back.append((await answer.read()).decode("latin1") + str(answer.headers))

    word = quote(secret, safe="")
    for scheme in ("Bearer", "Basic", "Token", "bearer trueup_t1."):
        await send("GET", "/v1/status", f"{scheme} {secret}")
    await send("GET", "/v1/status", f"Bearer operator:ops:{secret}")
    await send("POST", "/v1/join", json={"csr": "x", "token": secret})
    await send("POST", "/v1/join", json={"csr": secret, "token": f"trueup-join.{secret}"})
    await send("POST", "/v1/sources/main/webhook", data=b"{}", headers={"X-Gitlab-Token": secret})
    await send("POST", "/v1/sources/main/webhook", data=b"{}", headers={"X-Hub-Signature-256": f"sha256={secret}"})
    await send("GET", f"/v1/status?access_token={word}", f"Bearer {OPS}")
    await send("GET", f"/v1/status?token={word}&private_token={word}")
    await send("GET", "/v1/status", f"Bearer {OPS}", headers={"Cookie": f"session={secret}", "X-Api-Key": secret})
    host = world.url.removeprefix("http://")
    raw = f"GET http://ann:{word}@{host}/v1/nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    back.append((await said(world, raw.encode())).decode("latin1"))
    broken = f"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization\x00: Bearer {secret}\r\n\r\n"
    back.append((await said(world, broken.encode())).decode("latin1"))
    for text in (
        f"fatal: unable to access 'https://x-access-token:{secret}@git.example/x.git/'",
        f"Authorization: Bearer {secret}",
        f"postgresql://trueup:{secret}@[::1]/db is away",
        f"token={secret}",
        f'{{"password": "{secret}"}}',
    ):
        for error in (
            ValueError(text),
            Bug("fetch", text),
            Transient("fetch", text),
            Refusal("fetch", text),
            OSError(text),
        ):
            world.break_with = error
            await send("POST", "/v1/nodes/node-a/enrol", f"Bearer {NODE}", json=enrolment("node-a"))
    world.break_with = None
    return "\n".join(back)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(secret=SECRETS)
async def test_a_secret_in_any_place_is_in_no_line_and_in_no_answer(secret: str) -> None:
    with logged() as out:
        async with serving(Limits(unproven_rate=Rate(1000, 1000))) as world:
            await enrol_node(world.log, "node-a")
            back = await put_everywhere(world, secret)
    lines = out.getvalue()
    assert lines.count('"msg"') > 20
    for form in {secret, quote(secret, safe="")}:
        assert form not in lines, next(line for line in lines.splitlines() if form in line)
        assert form not in back, next(line for line in back.splitlines() if form in line)


@pytest.mark.parametrize(
    "form",
    [
        "Authorization: Bearer {}", "authorization=Basic {}", "'Authorization': 'Token {}'", "token={}", "token: {}",
        "password={}", "PASSWORD: {}", '"secret": "{}"', "'api_key': '{}'", "https://u:{}@h/x", "ssh://u:{}@h",
        "?access_token={}&x=1", "X-Gitlab-Token: {}", "Cookie: session={}", "private_key = {}",
    ],
)  # fmt: skip
@given(secret=SECRETS)
def test_a_secret_is_seen_by_what_stands_before_it(form: str, secret: str) -> None:
    assert secret not in redacted(f"it broke: {form.format(secret)} and so on")
