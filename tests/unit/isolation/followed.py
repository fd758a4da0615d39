"""A source of texts that is followed by the real judge: commits in memory, rows as the view `resources` has them.

`Followed.commit` judges the next commit and carries its plan out, holding every command to the rules: nothing of an app
that is held back is touched, and what stateful things lose was confirmed.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

from reconciler.core.commands import DeclareResource, RemoveResource, RetainResource
from reconciler.core.declared import ManifestFile, Scope
from reconciler.core.findings import Finding, errors
from reconciler.core.language.documents import parse_file
from reconciler.core.manifest import read_files
from reconciler.core.model import ResourceId
from reconciler.core.revisions import DEFAULT_RULES, Rules, Source
from reconciler.git.judge import Judged, judge
from reconciler.git.live_rows import Following
from reconciler.git.objects import CommitObject
from reconciler.git.tree_files import TreeDelta
from reconciler.git.tree_reader import TreeReader
from reconciler.vault import resolve_offline

Files = Mapping[str, str]


class Commits:
    """As `ObjectStore` and `TreeFiles`, for one branch without merges."""

    def __init__(self) -> None:
        self.trees: dict[str, Files] = {}
        self.messages: dict[str, str] = {}

    def add(self, files: Files, message: str) -> str:
        commit = f"{len(self.trees) + 1:040x}"
        self.trees[commit], self.messages[commit] = dict(files), message
        return commit

    def commit(self, commit: str) -> CommitObject:
        return CommitObject(commit, commit, "Dev <dev@example.com>", self.messages[commit])

    def has(self, object_id: str) -> bool:
        return object_id in self.trees

    def descends(self, commit: str, ancestor: str) -> bool:
        return ancestor <= commit

    def messages_since(self, base: str, head: str) -> list[str]:
        return [message for commit, message in self.messages.items() if base < commit <= head]

    def read(self, commit: str, base: str = "") -> TreeDelta:
        files, between = self._resolved(commit)
        if base not in self.trees:
            return TreeDelta(files=tuple(files.values()), findings=between)
        before, _ = self._resolved(base)
        changed = tuple(file for path, file in files.items() if before.get(path) != file)
        return TreeDelta(base, tuple(sorted(before.keys() - files.keys())), changed, between)

    def _resolved(self, commit: str) -> tuple[dict[str, ManifestFile], tuple[Finding, ...]]:
        parsed = [
            parse_file(text.encode(), path, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
            for path, text in self.trees[commit].items()
        ]
        files, between = read_files(parsed, Scope("org", "project"), resolve_offline)
        return {file.path: file for file in files}, tuple(between)


class Followed:
    """`held`: as the view `sources` has it. `against`: what the live system says, app -> findings."""

    def __init__(self, rules: Rules = DEFAULT_RULES) -> None:
        self.source = Source("main", "org", "project", "/repository", rules=rules)
        self.commits = Commits()
        self.reader = TreeReader(self.commits, resolve_offline)
        self.rows: dict[str, dict[str, Any]] = {}
        self.applied = ""
        self.held: dict[str, tuple[str, ...]] = {}
        self.plans: list[Any] = []
        self.following = Following("main")

    def commit(
        self, files: Files, message: str = "change", against: Mapping[str, tuple[Finding, ...]] | None = None
    ) -> Judged:
        head = self.commits.add(files, message)
        judged = self.judge(head, against or {})
        if judged.plan is not None and not errors(judged.findings):
            self.apply(judged)
        return judged

    def judge(self, head: str, against: Mapping[str, tuple[Finding, ...]]) -> Judged:
        return judge(
            self.source,
            self.commits,  # type: ignore[arg-type]  # the part of it that is asked for without signatures
            self.reader,
            head=head,
            base=self.applied,
            rows=dict(self.rows),
            following=self.following,
            held=self.held,
            blamed=against,
        )

    def apply(self, judged: Judged) -> None:
        assert judged.plan is not None
        self.plans.append(judged.plan)
        back = {each.app for each in judged.held}
        before = copy.deepcopy(self._of(back))
        for command in judged.plan.commands:
            match command:
                case DeclareResource():
                    origin = {"source_id": "main", "path": command.cause.path, "line": command.cause.line}
                    resource, text = command.resource, str(command.resource.id)
                    marks = {"protect": resource.marks.protect, "removal": resource.marks.removal}
                    spec = dict(resource.spec)
                    self.rows[text] = {"resource_id": text, "spec": spec, "retained": "", "origin": origin, **marks}
                case RemoveResource():
                    del self.rows[str(command.resource_id)]
                case RetainResource():
                    text = str(command.resource_id)
                    self.rows[text] = {**self.rows[text], "retained": command.reason}
        assert self._of(back) == before, "what is held back stays exactly as it is"
        self.applied = judged.info.commit
        self.held = {each.app: each.files for each in judged.held}

    def _of(self, apps: set[str]) -> dict[str, dict[str, Any]]:
        return {text: row for text, row in self.rows.items() if str(ResourceId.parse(text).owner) in apps}

    # --- what a test asks ---

    def live(self) -> dict[str, tuple[str, int]]:
        """Short identity -> path and line, of what is not retained."""
        return {
            ResourceId.parse(text).short: (row["origin"]["path"], row["origin"]["line"])
            for text, row in self.rows.items()
            if not row["retained"]
        }

    def names(self) -> set[str]:
        return set(self.live())


def held(judged: Judged) -> dict[str, list[str]]:
    """App (short, "" for unknown) -> PLACE code."""
    return {
        ResourceId.parse(each.app).name if each.app else "": [f"{one.place} {one.code}" for one in each.findings]
        for each in judged.held
    }


def codes(judged: Judged) -> list[str]:
    return [each.code for each in errors(judged.findings)]
