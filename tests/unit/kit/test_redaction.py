"""What must not be read in a log is taken out, and what people need there stays."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from kit import logs
from kit.redaction import BLANK, redacted

HEX = "0123456789abcdef" * 4
SECRETS = {
    "a token": (f"operator:ops:{HEX}", HEX),
    "a header": (f"Authorization: Bearer node:node-a:{HEX}", HEX),
    "another scheme": ("sent Basic dXNlcjpwYXNzd29yZA== to it", "dXNlcjpwYXNzd29yZA"),
    "credentials in a URL": ("clone https://ann:hunter2hunter2@git.example/a.git failed", "hunter2"),
    "a name in a URL": ("postgresql://trueup:s3cr3t@[::1]:5432/db is away", "s3cr3t"),
    "an age key": ("found AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQ in it", "QQQQQQ"),
    "a forge's token": ("ghp_abcdefghijklmnop and glpat-abcdefghijkl", "abcdefgh"),
    "a PEM key": ("x -----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY----- y", "MC4CAQ"),
    "a PEM key cut off": ("-----BEGIN EC PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw", "MC4CAQ"),
    "a signature": (f"X-Hub-Signature-256: sha256={HEX}", HEX),
    "a query": ("GET /x?access_token=abcdef123&y=1", "abcdef123"),
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_way_into_a_line_lets_a_secret_through(
    kind: str, form: logs.Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, secret = SECRETS[kind]
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logs.setup(form=form, level="debug")
    log = logs.get("canary")
    log.info(f"message {text}", why=text, deep={"a": [{"b": text}]}, raw=text.encode(), error=ValueError(text))
    log.error("broke", exc=ValueError(text))
    logging.getLogger("aiohttp.server").error("somebody else's: %s", text)
    assert secret not in out.getvalue()
    assert out.getvalue().count("blanked") >= 6


def test_a_field_with_a_telling_name_is_blank_however_deep() -> None:
    from kit.redaction import redacted_field

    assert redacted_field("a", {"my_token": "x", "b": [{"Password": 1}]}) == {
        "my_token": BLANK,
        "b": [{"Password": BLANK}],
    }


@pytest.mark.parametrize(
    "text",
    [
        f"registry.example/site@sha256:{HEX}",
        "https://git.example/team/repo.git",
        "node:node-a says ready",
        "ann@example.org committed 4f2a9c1",
        "WWW-Authenticate: Bearer realm=trueup",
        "http://[::1]:7340/v1/status?min_event_id=7",
        "the secret acme/shop/prod/site/secret/tls has no value for KEY",
        "token 01JABCDEFGH is revoked: it was lost",
        "a valid bearer token is needed",
        "secrets: [keys]",
        "app prod/app/site is held back: site.yaml:3:1 no such field 'secret'",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text
