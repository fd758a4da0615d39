"""A sealed file opens for what it is bound to, and for nothing else."""

from __future__ import annotations

import dataclasses

import pyrage
import pytest

from kit.errors import Refusal
from kit.sealed_file import MAGIC, Binding, _raw, is_sealed_file, open_file, seal_file

BINDING = Binding("node-a", "i-1", "org/project/prod/site/app/site", "sv-1")
CONTENT = b"# TRUEUP_SECRETS_V1\nKEY=value\n"


def test_it_opens_for_its_node_instance_app_and_version_alone() -> None:
    identity, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    sealed = seal_file(CONTENT, str(identity.to_public()), BINDING)
    assert is_sealed_file(sealed)
    assert b"KEY" not in sealed
    assert open_file(sealed, identity, BINDING) == CONTENT
    assert seal_file(CONTENT, str(identity.to_public()), BINDING) != sealed, "a data key for each"
    with pytest.raises(Refusal):
        open_file(sealed, other, BINDING)
    for name in ("node_id", "instance_id", "app", "version_id"):
        with pytest.raises(Refusal):
            open_file(sealed, identity, dataclasses.replace(BINDING, **{name: "another"}))


def test_any_change_on_the_way_is_seen() -> None:
    identity = pyrage.x25519.Identity.generate()
    sealed = seal_file(CONTENT, str(identity.to_public()), BINDING)
    for place in range(len(MAGIC), len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(Refusal):
            open_file(changed, identity, BINDING)
    for length in (len(MAGIC), len(MAGIC) + 50, len(sealed) - 1):
        with pytest.raises(Refusal):
            open_file(sealed[:length], identity, BINDING)


def test_two_files_cannot_be_put_together() -> None:
    """One's data key with the other's content."""
    identity = pyrage.x25519.Identity.generate()
    one, two = (seal_file(CONTENT, str(identity.to_public()), BINDING) for _ in range(2))
    cut = len(MAGIC) + 80
    with pytest.raises(Refusal):
        open_file(one[:cut] + two[cut:], identity, BINDING)


def test_the_bytes_of_an_age_key() -> None:
    """BIP 173's own alphabet: the recipient of the all-zero key is what other tools say it is."""
    assert _raw("age1" + "q" * 52 + "xxxxxx", "age1") == bytes(32)
    with pytest.raises(Refusal):
        seal_file(CONTENT, "age1nobody", BINDING)
