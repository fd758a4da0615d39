"""What the controller accepts as [[sources]], and what it refuses before anything is started."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from kit.errors import Refusal
from kit.settings import load
from reconciler.settings import ControllerSettings
from reconciler.source_settings import SourceSettings

KEY = "ssh-ed25519 " + "A" * 68
HTTPS = '[[sources]]\nname = "a"\nurl = "https://git.example/a.git"\norg = "acme"\nproject = "shop"\n'
SSH = HTTPS.replace("https://git.example", "ssh://git@git.example:2222")
PINNED = f'{SSH}ssh_key_file = "/etc/trueup/a"\nhost_keys = ["{KEY}"]\n'


def loaded(tmp_path: Path, text: str, *argv: str) -> ControllerSettings:
    file = tmp_path / "controller.toml"
    file.write_text(text)
    return load(ControllerSettings, argv=["--config", str(file), *argv], environ={}, prog="trueup controller")


def refusal(tmp_path: Path, text: str, *argv: str) -> str:
    with pytest.raises(Refusal) as refused:
        loaded(tmp_path, text, *argv)
    return str(refused.value)


def test_flags_are_short_for_one_source(tmp_path: Path) -> None:
    argv = [
        "--repository",
        "/srv/x",
        "--source",
        "fleet",
        "--path",
        "deploy",
        "--state",
        "/s",
        "--poll-interval-s",
        "5",
    ]
    (one,) = loaded(tmp_path, "", *argv).followed
    assert (one.name, one.url, one.path, one.org, one.poll_interval_s) == ("fleet", "/srv/x", "deploy", "default", 5.0)
    assert one.access.credentials_file == Path("/s/git/credentials")
    assert one.access.ssh_key_file is None


def test_tables_in_full(tmp_path: Path) -> None:
    text = f"""{PINNED}
branch = "prod"
path = "deploy"
takes_over = ["old"]
poll_interval_s = "1m"
fetch_timeout_s = 30
fetch_bytes_max = "512Mi"
signers = "/etc/trueup/signers.toml"
[[sources]]
name = "b"
url = "https://git.example/b.git"
org = "acme"
project = "blog"
token_file = "/etc/trueup/b.token"
ca_file = "/etc/trueup/ca.pem"
"""
    first, second = loaded(tmp_path, text).followed
    assert (first.branch, first.takes_over, first.poll_interval_s) == ("prod", ("old",), 60.0)
    assert (first.fetch_timeout_s, first.fetch_bytes_max) == (30, 512 << 20)
    assert first.source.takes_over == ("old",)
    assert (second.access.token_user, second.access.token_file) == ("x-access-token", Path("/etc/trueup/b.token"))


def test_the_example_of_the_page_is_accepted(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "SOURCES.md").read_text()
    shop, blog = loaded(tmp_path, page.split("```toml\n")[1].split("```")[0]).followed
    assert (shop.name, blog.path, blog.forge.kind) == ("shop", "teams/blog", "gitlab")
    named = page.split("| key | meaning |")[1].split("\n\n")[0]
    assert not [field.name for field in fields(SourceSettings) if field.name not in named], "every key is told"


def test_tables_have_to_agree_on_what_they_share(tmp_path: Path) -> None:
    other = HTTPS.replace('"a"', '"b"')
    assert "org_quota of acme is not the same" in refusal(tmp_path, HTTPS + 'org_quota = "instances=1"\n' + other)
    forge = '[sources.forge]\nkind = "gitea"\n'
    assert "2 sources of https://git.example/a.git tell the forge" in refusal(tmp_path, HTTPS + forge + other + forge)
    assert loaded(tmp_path, HTTPS + forge + other + forge + 'context = "b"\n').followed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "--repository: is required, or tables [[sources]]"),
        (HTTPS.replace('org = "acme"\n', ""), 'controller.toml:1: [[sources]] "a": org: is required'),
        (HTTPS.replace('project = "shop"\n', ""), "project: is required"),
        (HTTPS.replace("acme", "ac/me"), "org: expected a-z"),
        (HTTPS.replace('"a"', '"../a"'), "name: expected a-z"),
        (HTTPS + "brnach = 1\n", "controller.toml:6: [[sources]] \"a\": brnach: there is no such setting; did you"),
        (HTTPS + 'branch = "-x"\n', "branch: '-x' is not the name of a branch"),
        (HTTPS + 'path = "../x"\n', "path: '../x' is not a folder"),
        (HTTPS.replace("https:", "http:"), "url: the transport http:// is not allowed"),
        (HTTPS.replace("https://", "https://ghp_hunter2@"), "url: the address holds a user or a token"),
        (HTTPS.replace("https://", "https://x:hunter2@"), "url: the address holds a password"),
        (HTTPS.replace(".example/", ".example:99999/"), "url: the address names no proper host"),
        (HTTPS.replace("https://git.example/a.git", "ext::sh -c id"), "url: "),
        (HTTPS + 'ssh_key_file = "/x"\n', "ssh_key_file: is for ssh addresses only"),
        (HTTPS + f'host_keys = ["{KEY}"]\n', "host_keys: is for ssh addresses only"),
        (HTTPS + 'token_file = "/x"\ncredentials_file = "/y"\n', "credentials_file: there is a token_file too"),
        (HTTPS + "poll_interval_s = 0\n", "poll_interval_s: expected between"),
        (HTTPS + 'fetch_bytes_max = "1Ki"\n', "fetch_bytes_max: expected at least 1Mi"),
        (HTTPS + 'accepted_rewrite = "abc"\n', "accepted_rewrite: expected at least 12"),
        (HTTPS + 'takes_over = ["a"]\n', "takes_over: expected the names of other sources"),
        (SSH, "ssh_key_file: an ssh address needs one"),
        (SSH, "host_keys: an ssh address needs them"),
        (PINNED + 'known_hosts_file = "/x"\n', "host_keys: an ssh address needs them, or a known_hosts_file, and"),
        (PINNED.replace(KEY, "git.example " + KEY), "host_keys: expected TYPE BASE64"),
        (PINNED.replace("/etc/trueup/a", "/etc/$HOME/a"), "is of no use to ssh"),
        (PINNED + 'token_file = "/x"\n', "token_file: is for https addresses only"),
        (HTTPS + HTTPS, 'sources: 2 are called "a"'),
        ('branch = "x"\n' + HTTPS, "branch: is for one --repository"),
        ('signers = "/x"\n' + HTTPS, "signers: is for one --repository"),
        ('repository = "/srv/x"\n' + HTTPS, "--repository: there are tables [[sources]] too"),
    ],
)  # fmt: skip
def test_what_is_refused_at_the_start(tmp_path: Path, text: str, told: str) -> None:
    message = refusal(tmp_path, text)
    assert told in message
    assert "hunter2" not in message


def test_the_flags_org_and_project_are_parts_of_names_too(tmp_path: Path) -> None:
    assert "--org: expected a-z" in refusal(tmp_path, "", "--repository", "/srv/x", "--org", "acme/shop")
