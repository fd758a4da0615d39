"""The recent end of the log, already serialised, with an index by filter key. No I/O.

Filled by `reconciler.server.hub`, read by every stream. A reader is only a position (an event_id): it asks for what
matches its key behind that position. So a reader that is slow costs nothing but its own place, and when the ring has
moved past it, `read` says so and the caller reads the database instead.

Events come in whole commands and leave in whole commands; `read` never cuts one in two.

The keys of machines are indexed always: all of them come back at once after a restart. Those of people are so many (an
event matches a dozen) that only the ones that have a reader are: `follow` looks through the ring once.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from sys import intern

import msgspec

from kit.codec import to_json
from reconciler.core.events import Event
from reconciler.core.filters import (
    ALL,
    Place,
    PlaceFilter,
    is_place,
    left_machine_keys,
    left_place,
    machine_keys,
    place_keys,
    place_of,
)

_encode = msgspec.json.Encoder(enc_hook=to_json).encode


@dataclass(frozen=True, slots=True)
class Slice:
    """`position`: everything up to it that matches is in `lines`, or was before. Always the end of a command."""

    lines: tuple[bytes, ...]
    position: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one event is to those that `keys` and `place` match. `removal`: what it is to others."""

    event_id: int
    command_end: int
    keys: tuple[str, ...]
    place: Place | None
    line: bytes
    removal: _Entry | None = None


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


def removal_line(log_id: str, event: Event) -> bytes:
    """What the event is about has left what the reader sees; where it went is not the reader's."""
    names = {"aggregate_type": event.aggregate_type, "aggregate_id": event.aggregate_id}
    text = json.dumps(names, separators=(",", ":")).encode()
    return b'{"type":"removal","cursor":"%b.%d",%b\n' % (log_id.encode(), event.event_id, text[1:])


def bookmark_line(log_id: str, position: int) -> bytes:
    """Everything up to `position` that the reader may see was sent before this."""
    return b'{"type":"bookmark","cursor":"%b.%d"}\n' % (log_id.encode(), position)


class Ring:
    """Holds (`floor`, `head`]. Bounded in events and in bytes."""

    def __init__(self, log_id: str, head: int, *, events_max: int, bytes_max: int) -> None:
        self.log_id = log_id
        self.head = head
        self.floor = head
        self.bytes_held = 0
        self._followed: set[str] = set()
        """Keys of people that have a reader."""
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
            for each, keys in self._indexed(entry):
                for key in keys:
                    self._by_key.setdefault(key, _Index()).add(each)
                touched.update(keys)
        self._evict()
        return touched

    def follow(self, key: str) -> None:
        """The key has a reader now. Looks through all that is held, which takes milliseconds."""
        if not is_place(key) or key in self._followed:
            return
        self._followed.add(key)
        wanted, index = PlaceFilter.of(key), _Index()
        for entry in self._entries:
            for each in (entry, entry.removal):
                if each is not None and each.place is not None and wanted.matches(each.place):
                    index.add(each)
                    break
        if index.entries:
            self._by_key[key] = index

    def unfollow(self, key: str) -> None:
        """It has none any more."""
        if key in self._followed:
            self._followed.discard(key)
            self._by_key.pop(key, None)

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
            end = ends[event.command_id]
            keys = (ALL, *sorted(machine_keys(event)))
            place = Place(*map(intern, place_of(event)))
            yield _Entry(event.event_id, end, keys, place, change_line(self.log_id, event), self._removal(event, end))

    def _removal(self, event: Event, end: int) -> _Entry | None:
        keys, place = tuple(sorted(left_machine_keys(event))), left_place(event)
        if not keys and place is None:
            return None
        return _Entry(event.event_id, end, keys, place, removal_line(self.log_id, event))

    def _indexed(self, entry: _Entry) -> Iterator[tuple[_Entry, list[str]]]:
        """Under which keys an event is, and as what. A key for which it is a change gets no removal of it."""
        changed = [*entry.keys, *self._places(entry)]
        yield entry, changed
        if entry.removal is not None:
            left = [*entry.removal.keys, *self._places(entry.removal)]
            yield entry.removal, [key for key in left if key not in changed]

    def _places(self, entry: _Entry) -> list[str]:
        if not self._followed or entry.place is None:
            return []
        return [key for key in place_keys(entry.place) if key in self._followed]

    def _evict(self) -> None:
        while self._entries and (len(self._entries) > self._events_max or self.bytes_held > self._bytes_max):
            end = self._entries[0].command_end
            while self._entries and self._entries[0].event_id <= end:
                self._evict_first()
            self.floor = end

    def _evict_first(self) -> None:
        entry = self._entries.popleft()
        self.bytes_held -= len(entry.line)
        for _, keys in self._indexed(entry):
            for key in keys:
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
