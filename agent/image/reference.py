"""A reference to an image by its content: REGISTRY/NAME[:TAG]@sha256:DIGEST. Pure.

The tag says nothing more and is dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kit.errors import Refusal

_REFERENCE = re.compile(
    r"(?P<registry>(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?)"
    r"/(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?"
    r"@sha256:(?P<digest>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Reference:
    registry: str  # host, or host:port
    name: str
    digest: str  # 64 hex digits

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}@sha256:{self.digest}"

    def at(self, digest: str) -> Reference:
        """Another content of the same repository."""
        return Reference(self.registry, self.name, digest)


def parse(image: str) -> Reference:
    """Raises `Refusal` (image_pull_failed): only a digest says what will run, so nothing else is accepted."""
    match = _REFERENCE.fullmatch(image)
    if not match or not _is_host(match["registry"]):
        raise Refusal(
            f"read the image reference {image[:300]!r}",
            "it is not REGISTRY/NAME@sha256:DIGEST",
            fix="name the registry's host, and the digest that the push printed",
            code="image_pull_failed",
        )
    return Reference(match["registry"], match["name"], match["digest"])


def _is_host(text: str) -> bool:
    """As docker tells a host from the first part of a name."""
    return "." in text or ":" in text or text == "localhost"
