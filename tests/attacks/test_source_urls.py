"""Addresses of sources that would have the controller ask, or run, something else than a repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.errors import Refusal
from reconciler.core.revisions import Source
from reconciler.git.access import Access
from reconciler.git.addresses import check_url
from reconciler.git.clone import BareClone, Fetching

METADATA = (
    "169.254.169.254", "169.254.43518", "169.16689662", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "2852039166",
    "0251.0376.0251.0376", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "metadata.google.internal",
    "Metadata.Google.Internal.", "100.100.100.200", "0.0.0.0", "0", "[::]", "224.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("host", METADATA)
@pytest.mark.parametrize("form", ["https://{}/latest/meta-data", "https://{}:443/x", "ssh://git@{}/x", "git@{}:x"])
def test_no_source_is_at_a_metadata_service(host: str, form: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_url(form.format(host))
    assert refused.value.code == "settings_invalid"


@pytest.mark.parametrize(
    "url",
    [
        "http://git.example/x", "git://git.example/x", "ftp://git.example/x", "gopher://git.example/x",
        "ext::sh -c touch% {ran}", "ext::sh", "fd::17", "transport::address", "EXT::sh",
        "-uploadpack=touch {ran}", "--upload-pack=touch {ran}", "ssh://-oProxyCommand=touch${{IFS}}{ran}/x",
        "ssh://git@-oProxyCommand=x/x", "ssh://-x@git.example/x", "file://git.example/x",
        "https://ann:secret@git.example/x", "https://token@git.example/x", "https:///x", "https://git.example:0/x",
        "https://git.example:99999/x", "https://git.example/x y", "https://git.example/x\r\nHost: other",
        "https://git.example\x00.other/x", "https://git.example@169.254.169.254/x", "https://git.exаmple/x",
        "https://git_example/x", "https://[::1/x", "x" * 4000,
    ],
)  # fmt: skip
async def test_what_is_no_address_of_a_repository_runs_and_asks_nothing(url: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    source = Source("main", "o", "p", url.format(ran=ran) if "{" in url else url)
    with pytest.raises(Refusal) as refused:
        await BareClone(tmp_path / "state", source, Fetching(Access(), 5.0, 1 << 20)).open()
    assert refused.value.code == "settings_invalid"
    assert "secret" not in str(refused.value) and "token@" not in str(refused.value)
    assert not ran.exists()


@pytest.mark.parametrize(
    "url", ["https://git.example/x.git", "https://127.0.0.1:8443/x", "ssh://git@10.0.0.7:2222/x", "git@git.example:x"]
)
def test_a_forge_of_ones_own_is_fine(url: str) -> None:
    assert check_url(url) == url
