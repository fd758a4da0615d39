"""The specification of one resource: its folder's defaults, its manifest over them, its overlay over both."""

from __future__ import annotations

import dataclasses

from reconciler.core.language.defaults import Chain
from reconciler.core.language.merge import get, merge, put
from reconciler.core.language.overlays import Overlay
from reconciler.core.language.targets import Target
from reconciler.core.yaml_reader import Entry, Node, Table


def inherit(target: Target, document: Table, chain: Chain, overlay: Overlay | None) -> Node | None:
    """None when nobody says anything, and the schema will ask for it."""
    spec, patch = get(document, "spec"), overlay.patch if overlay else None
    if target.kind == "app":
        spec = _with_processes(spec, patch, chain.inherited(target.env, "process"))
    elif isinstance(defaults := chain.inherited(target.env, target.kind), Table):
        weak = dataclasses.replace(defaults, mark=document.mark)
        spec = weak if spec is None else merge(weak, spec)
    return merge(spec, patch) if spec is not None and patch is not None else spec


def _with_processes(spec: Node | None, patch: Node | None, defaults: Node | None) -> Node | None:
    """Every process over the defaults, also one that only the overlay adds."""
    processes = get(spec, "processes")
    if not (isinstance(spec, Table) and isinstance(processes, Table) and isinstance(defaults, Table)):
        return spec
    own = {entry.key for entry in processes.entries}
    entries = [dataclasses.replace(entry, value=merge(defaults, entry.value)) for entry in processes.entries]
    entries += [
        Entry(entry.key, entry.key_mark, dataclasses.replace(defaults, mark=entry.value.mark))
        for entry in _entries(get(patch, "processes"))
        if entry.key not in own and isinstance(entry.value, Table)
    ]
    return put(spec, "processes", dataclasses.replace(processes, entries=tuple(entries)))


def _entries(node: Node | None) -> tuple[Entry, ...]:
    return node.entries if isinstance(node, Table) else ()
