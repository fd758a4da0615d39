"""Reads schemas/events/TYPE.vN.json. Called by `reconciler.store.store`, once."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from kit.errors import Bug

_NAME = re.compile(r"([a-z]+\.[a-z_]+)\.v([1-9][0-9]*)\.json")


def load_event_schemas() -> dict[tuple[str, int], Any]:
    """(event_type, event_version) -> schema document."""
    found = {}
    for each in (resources.files("schemas") / "events").iterdir():
        match = _NAME.fullmatch(each.name)
        if match is not None:
            found[match[1], int(match[2])] = json.loads(each.read_text(encoding="utf-8"))
    if not found:
        raise Bug("read the schemas of the events", "schemas/events is empty or not installed", code="schemas_missing")
    return found
