"""Limits as people write them: `quota` of an Environment's manifest, and the settings --org-quota and --project-quota.

Called by `reconciler.core.normalise` and `reconciler.settings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_NAMES = {
    "instances": "instances",
    "memory": "memory_bytes",
    "routes": "routes",
    "volumes": "volumes",
    "volumeSize": "volume_bytes",
}
_SIZES = frozenset({"memory", "volumeSize"})
_UNITS = {"Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def limits_of(given: Mapping[str, str | int], size_of: Callable[[str], int]) -> dict[str, int]:
    """{"memory": "1Gi"} -> {"memory_bytes": 1 << 30}. `given` fits the manifest's schema."""
    return {_NAMES[name]: size_of(str(value)) if name in _SIZES else int(value) for name, value in given.items()}


def parse_limits(text: str) -> dict[str, int]:
    """ "instances=10,memory=64Gi" -> limits. Raises ValueError that says what is wrong."""
    given: dict[str, str | int] = {}
    for part in filter(None, re.split(r"[\s,]+", text)):
        name, _, value = part.partition("=")
        if name not in _NAMES:
            raise ValueError(f"{name!r} cannot be limited, only {', '.join(_NAMES)}")
        if not re.fullmatch(r"[0-9]{1,6}(Mi|Gi|Ti)" if name in _SIZES else r"[0-9]{1,9}", value):
            raise ValueError(f"{part!r}: expected {name}={'64Gi' if name in _SIZES else '10'}")
        given[name] = value
    return limits_of(given, lambda size: int(size[:-2]) * _UNITS[size[-2:]])
