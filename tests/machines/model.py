"""What the log promises, as simply as it can be said: one dictionary for each thing, one command after the other.

It shares no code with `reconciler.store.placement`, so that a mistake there is not made here as well. Answers are
("appended", first, last), ("duplicate", first, last) or ("conflict", kind). Aggregates that end are not in it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from reconciler.core.commands import Append, Appended, AppendResult

Answer = tuple[str, int, int] | tuple[str, str]


@dataclass
class Model:
    last_event_id: int = 0
    commands: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    claims: dict[tuple[str, str], str] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)

    def append(self, batch: Sequence[Append], *, atomic: bool = True) -> list[Answer]:
        before = copy.deepcopy(self.__dict__)
        answers = [self._one(each) for each in batch]
        if not atomic or all(answer[0] != "conflict" for answer in answers):
            return answers
        self.__dict__.update(before)
        return [
            answer if answer[0] == "conflict" or each.command_id in self.commands else ("conflict", "batch")
            for each, answer in zip(batch, answers, strict=True)
        ]

    def _one(self, append: Append) -> Answer:
        if append.command_id in self.commands:
            body_hash, first, last = self.commands[append.command_id]
            return ("duplicate", first, last) if body_hash == append.body_hash else ("conflict", "command_id")
        if append.fence is not None and self.epochs.get(append.fence.lease) != append.fence.epoch:
            return "conflict", "fence"
        if any(self.versions.get(key, 0) != expected for key, expected in append.expected.items()):
            return "conflict", "version"
        claims = dict(self.claims)
        for claim in append.free:
            if claims.get((claim.kind, claim.key)) == claim.owner:
                del claims[claim.kind, claim.key]
        for claim in append.take:
            if claims.setdefault((claim.kind, claim.key), claim.owner) != claim.owner:
                return "conflict", "claim"
        first, self.claims = self.last_event_id + 1, claims
        for event in append.events:
            key = (event.aggregate_type, event.aggregate_id)
            self.versions[key] = self.versions.get(key, 0) + 1
            self.last_event_id += 1
        self.commands[append.command_id] = (append.body_hash, first, self.last_event_id)
        return "appended", first, self.last_event_id


def told(results: Sequence[AppendResult]) -> list[Answer]:
    """What the store has answered, in the words of the model."""
    return [
        ("duplicate" if result.duplicate else "appended", result.first_event_id, result.last_event_id)
        if isinstance(result, Appended)
        else ("conflict", result.kind)
        for result in results
    ]
