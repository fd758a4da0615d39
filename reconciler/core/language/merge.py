"""How one piece of a manifest lies over another: mappings key by key, everything else whole.

Used for defaults (under a manifest) and overlays (over it). Where the stronger side has a key without a value, or null,
the weaker side's value is taken away; where there is nothing to take away it stays, and the schema says so at its line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from reconciler.core.yaml_reader import Array, Entry, Mark, Node, Table, is_nothing


def merge(weak: Node, strong: Node) -> Node:
    """Values, keys and places of `strong` where both say something."""
    if not (isinstance(weak, Table) and isinstance(strong, Table)):
        return strong
    entries = {entry.key: entry for entry in weak.entries}
    for entry in strong.entries:
        under = entries.get(entry.key)
        if under is not None and is_nothing(entry.value):
            del entries[entry.key]
        else:
            value = merge(under.value, entry.value) if under else entry.value
            entries[entry.key] = Entry(entry.key, entry.key_mark, value)
    return Table(tuple(entries.values()), strong.mark)


def get(node: Node | None, *keys: str) -> Node | None:
    """The value below some keys, None where one of them is missing."""
    for key in keys:
        if not isinstance(node, Table):
            return None
        node = next((entry.value for entry in node.entries if entry.key == key), None)
    return node


def put(table: Table, key: str, value: Node, key_mark: Mark | None = None) -> Table:
    """The table with that value; a new key comes last."""
    entries = [entry for entry in table.entries if entry.key != key]
    at = next((n for n, entry in enumerate(table.entries) if entry.key == key), len(entries))
    mark = table.entries[at].key_mark if at < len(table.entries) else key_mark or value.mark
    entries.insert(at, Entry(key, mark, value))
    return dataclasses.replace(table, entries=tuple(entries))


def without(table: Table, *keys: str) -> Table:
    return dataclasses.replace(table, entries=tuple(entry for entry in table.entries if entry.key not in keys))


def left_over(node: Node | None) -> Iterator[Node]:
    """Keys without a value that took nothing away."""
    match node:
        case Table():
            for entry in node.entries:
                yield from left_over(entry.value)
        case Array():
            for item in node.items:
                yield from left_over(item)
        case _ if node is not None and is_nothing(node):
            yield node
