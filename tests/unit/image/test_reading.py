"""References, skopeo's words, image configurations: the pure parts of the image driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.image.config import root_image
from agent.image.failures import fetch_failure
from agent.image.reference import Reference, parse
from agent.image.unpack import decode_owner
from kit.errors import Refusal, Transient, TrueupError
from kit.wire import REASON_CODES

DIGEST = "0123456789abcdef" * 4
REFERENCE = Reference("registry.example:5000", "team/site", DIGEST)
DOCUMENT: dict[str, Any] = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["x"]}}


@pytest.mark.parametrize(
    ("text", "registry", "name"),
    [
        (f"registry.example:5000/team/site@sha256:{DIGEST}", "registry.example:5000", "team/site"),
        (f"registry.example:5000/team/site:v1@sha256:{DIGEST}", "registry.example:5000", "team/site"),
        (f"[fd00::1]:5000/a-b__c@sha256:{DIGEST}", "[fd00::1]:5000", "a-b__c"),
        (f"localhost/x@sha256:{DIGEST}", "localhost", "x"),
    ],
)
def test_references(text: str, registry: str, name: str) -> None:
    assert parse(text) == Reference(registry, name, DIGEST)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "registry.example/site:latest",
        f"site@sha256:{DIGEST}",
        f"library/site@sha256:{DIGEST}",
        f"registry.example/Site@sha256:{DIGEST}",
        f"registry.example/site@sha256:{DIGEST[:-1]}",
        f"registry.example/site@sha256:{DIGEST.upper()}",
        f"--registry.example/site@sha256:{DIGEST}x",
        f"registry.example/../site@sha256:{DIGEST}",
        f"registry.example/site@sha256:{DIGEST}\n",
        f"registry.example/a/site --x@sha256:{DIGEST}",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse(text)
    assert caught.value.code in REASON_CODES


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ("dial tcp 1.2.3.4:443: connect: connection refused", "registry_unreachable", Transient),
        (
            "fetching manifest: received unexpected HTTP status: 503 Service Unavailable",
            "registry_unreachable",
            Transient,
        ),
        ("invalid status code from registry 429 (Too Many Requests)", "registry_unreachable", Transient),
        ("reading manifest latest: unauthorized: authentication required", "image_pull_failed", Refusal),
        ('Get \\"https://x/v2/\\": x509: certificate signed by unknown authority', "image_pull_failed", Refusal),
        ("Digest did not match, expected sha256:a, got sha256:b", "image_digest_mismatch", Refusal),
        ("write /var/lib: no space left on device", "image_pull_failed", Transient),
        ("something new under the sun", "image_pull_failed", Transient),
    ],
)
def test_what_skopeo_says(words: str, code: str, kind: type[TrueupError]) -> None:
    error = fetch_failure(REFERENCE, f'time="now" level=fatal msg="{words}"\n')
    assert (error.code, type(error)) == (code, kind)
    assert REFERENCE.registry in str(error)
    assert str(REFERENCE) in error.attempted
    assert error.fix


def test_an_authors_words_in_the_reference_do_not_decide() -> None:
    """The message repeats the reference: a repository with a telling name is still only unreachable."""
    name = "docker://registry.example/digest did not match"
    words = f'Error parsing image name \\"{name}\\": dial tcp: i/o timeout'
    assert fetch_failure(REFERENCE, f'level=fatal msg="{words}"').code == "registry_unreachable"
    odd = Reference("registry.example", "team/certificate", DIGEST)
    assert fetch_failure(odd, "reading team/certificate: connection refused").code == "registry_unreachable"


def image_of(tree: Path, **config: Any) -> Any:
    return root_image(REFERENCE, {**DOCUMENT, "config": config}, tree, Path("root.squashfs"))


@pytest.mark.parametrize(
    ("user", "expected", "home"),
    [
        ("", "0:0", "/root"),
        ("web", "7:8", "/home/web"),
        ("web:staff", "7:50", "/home/web"),
        ("7", "7:8", "/home/web"),
        ("99", "99:0", "/"),
        ("99:98", "99:98", "/"),
    ],
)
def test_users(tmp_path: Path, user: str, expected: str, home: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("broken\nweb:x:7:8::/home/web:/bin/sh\n")
    (tmp_path / "etc/group").write_text("staff:x:50:\n")
    image = image_of(tmp_path, User=user)
    assert (image.user, image.environment["HOME"]) == (expected, home)


@pytest.mark.parametrize("linked", ["etc", "etc/passwd"])
def test_a_link_in_an_image_never_leads_to_the_hosts_files(tmp_path: Path, linked: str) -> None:
    host, tree = tmp_path / "host", tmp_path / "tree"
    for folder in (host / "etc", tree):
        folder.mkdir(parents=True)
    (host / "etc/passwd").write_text("web:x:7:8::/:/bin/sh\n")
    (tree / linked).parent.mkdir(exist_ok=True)
    (tree / linked).symlink_to(host / linked)
    with pytest.raises(Refusal):
        image_of(tree, User="web")


def test_an_image_for_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="linux/arm64"):
        root_image(REFERENCE, {**DOCUMENT, "architecture": "arm64"}, tmp_path, tmp_path)


def test_owner_notes() -> None:
    assert decode_owner(b"") == (0, 0)
    assert decode_owner(b"\x08\xe8\x07\x10\xe9\x07") == (1000, 1001)
    assert decode_owner(b"\x08\xff\xff\xff\xff\x0f\x10\x05") == (0, 5)  # "no change" is root's
