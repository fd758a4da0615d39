"""What a commit costs in decryption: its own secrets, and those that could not be opened. Not those with a warning."""

from __future__ import annotations

from pathlib import Path

from reconciler.core.declared import Scope
from reconciler.core.findings import errors
from reconciler.core.secret_file import ResolvedSecret, SecretManifest, SecretNote, SecretRefusal
from reconciler.git.objects import ObjectStore
from reconciler.git.tree_files import TreeFiles
from reconciler.git.tree_reader import TreeReader
from reconciler.vault import resolve_offline
from tests.integration.git.repository import Repository
from tests.unit.planner.trees import ENVIRONMENT, app
from tests.unit.planner.trees import secret as sealed


def test_a_warning_is_told_each_time_and_opened_once(tmp_path: Path) -> None:
    opened: list[str] = []

    def resolve(secret: SecretManifest) -> ResolvedSecret:
        opened.append(secret.id.name)
        if secret.id.name == "foreign":
            raise SecretRefusal("KEY", "it does not open", "seal it anew", "secret_undecryptable")
        plain = resolve_offline(secret)
        return ResolvedSecret(plain.spec, 0, (SecretNote("KEY", "an earlier key", "rewrap it", "secret_earlier_key"),))

    repository = Repository(tmp_path / "repository")
    files = {"env.yaml": ENVIRONMENT, "app.yaml": app(), "old.yaml": sealed("old"), "foreign.yaml": sealed("foreign")}
    commits = [repository.commit(files), repository.commit({"more.yaml": app("more")})]
    reader = TreeReader(TreeFiles(ObjectStore(repository.path), Scope("acme", "shop"), ()), resolve)
    for commit in commits:
        assembled = reader.read(commit)
        warnings = [each for each in assembled.findings if each.severity == "warning"]
        assert [(each.place, each.code, each.fix) for each in warnings] == [
            ("old.yaml:6:10", "secret_earlier_key", "rewrap it")
        ]
        assert [each.code for each in errors(assembled.findings)] == ["secret_undecryptable"]
    assert opened.count("old") == 1
    assert opened.count("foreign") == 2
