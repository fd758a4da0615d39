"""The recent end of the log, already serialised, with an index by filter key. No I/O.

Filled by `reconciler.server.hub`, read by every stream. A reader is only a position (an event_id): it asks for what
matches its key behind that position. So a reader that is slow costs nothing but its own place, and when the ring has
moved past it, `read` says so and the caller reads the database instead.

Events come in whole commands and leave in whole commands; `read` never cuts one in two.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from kit.codec import to_json
from reconciler.core.events import Event

ALL = "*"
"""The key of the readers that see everything."""

_encode = msgspec.json.Encoder(enc_hook=to_json).encode

Keys = Callable[[Event], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Slice:
    """`position`: everything up to it that matches is in `lines`, or was before. Always the end of a command."""

    lines: tuple[bytes, ...]
    position: int


@dataclass(frozen=True, slots=True)
class _Entry:
    event_id: int
    command_end: int
    keys: tuple[str, ...]
    line: bytes


@dataclass(slots=True)
class _Index:
    """The entries of one key. `start`: how many at the front are evicted but not yet cut away."""

    event_ids: list[int] = field(default_factory=list)
    entries: list[_Entry] = field(default_factory=list)
    start: int = 0

    def add(self, entry: _Entry) -> None:
        self.event_ids.append(entry.event_id)
        self.entries.append(entry)

    def evict_first(self) -> bool:
        """True when nothing is left."""
        self.start += 1
        if self.start * 2 > len(self.entries):
            del self.event_ids[: self.start]
            del self.entries[: self.start]
            self.start = 0
        return not self.entries


def change_line(log_id: str, event: Event) -> bytes:
    """One line of the change stream; the same bytes for every reader. msgspec is six times as fast as json."""
    try:
        text = _encode(event)
    except OverflowError:  # whole numbers beyond 64 bits
        text = json.dumps(to_json(event), separators=(",", ":"), ensure_ascii=False).encode()
    return b'{"type":"change","cursor":"%b.%d","event":%b}\n' % (log_id.encode(), event.event_id, text)


def bookmark_line(log_id: str, position: int) -> bytes:
    """Everything up to `position` that the reader may see was sent before this."""
    return b'{"type":"bookmark","cursor":"%b.%d"}\n' % (log_id.encode(), position)


class Ring:
    """Holds (`floor`, `head`]. Bounded in events and in bytes."""

    def __init__(self, log_id: str, head: int, keys: Keys, *, events_max: int, bytes_max: int) -> None:
        self.log_id = log_id
        self.head = head
        self.floor = head
        self.bytes_held = 0
        self._keys = keys
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._entries: deque[_Entry] = deque()
        self._by_key: dict[str, _Index] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, events: Sequence[Event]) -> set[str]:
        """Takes the next events of the log, whole commands. Returns the keys that have something new."""
        touched: set[str] = set()
        for entry in self._serialise(events):
            assert entry.event_id == self.head + 1, (entry.event_id, self.head)
            self.head = entry.event_id
            self.bytes_held += len(entry.line)
            self._entries.append(entry)
            for key in entry.keys:
                self._by_key.setdefault(key, _Index()).add(entry)
            touched.update(entry.keys)
        self._evict()
        return touched

    def read(self, key: str, position: int, bytes_max: int) -> Slice | None:
        """What matches `key` behind `position`, about `bytes_max` of it. None: the ring does not reach back so far."""
        if position < self.floor:
            return None
        index = self._by_key.get(key)
        if index is None:
            return Slice((), max(position, self.head))
        first = max(bisect_right(index.event_ids, position), index.start)
        chosen = whole_commands(index.entries, first, bytes_max)
        behind = len(index.entries) - first - len(chosen)
        end = chosen[-1].command_end if behind else self.head
        return Slice(tuple(entry.line for entry in chosen), max(position, end))

    def _serialise(self, events: Sequence[Event]) -> Iterable[_Entry]:
        ends: dict[str, int] = {event.command_id: event.event_id for event in events}
        for event in events:
            keys = (ALL, *sorted(set(self._keys(event))))
            yield _Entry(event.event_id, ends[event.command_id], keys, change_line(self.log_id, event))

    def _evict(self) -> None:
        while self._entries and (len(self._entries) > self._events_max or self.bytes_held > self._bytes_max):
            end = self._entries[0].command_end
            while self._entries and self._entries[0].event_id <= end:
                self._evict_first()
            self.floor = end

    def _evict_first(self) -> None:
        entry = self._entries.popleft()
        self.bytes_held -= len(entry.line)
        for key in entry.keys:
            if self._by_key[key].evict_first():
                del self._by_key[key]


def whole_commands(entries: Sequence[_Entry], first: int, bytes_max: int) -> list[_Entry]:
    """From `first` on, until `bytes_max` is passed and a command ends."""
    chosen: list[_Entry] = []
    size = 0
    for index in range(first, len(entries)):
        entry = entries[index]
        if chosen and size >= bytes_max and entry.command_end != chosen[-1].command_end:
            break
        chosen.append(entry)
        size += len(entry.line)
    return chosen
