"""What files say together, where the golden cases cannot show it: across files, and beside broken ones."""

from __future__ import annotations

from reconciler.core.cross_checks import RESOURCES_MAX, assemble
from reconciler.core.manifest import Declared, ManifestFile, Scope, read_file
from reconciler.core.model import Origin, Resource
from reconciler.vault import resolve_offline
from tests.unit.planner.trees import ENVIRONMENT, app, route, tree, volume

USES_DATA = app(more="      volumes: [{name: data, path: /data}]\n")


def found(files: dict[str, str]) -> list[str]:
    scope = Scope("org", "project")
    read = [read_file(text.encode(), path, "0" * 40, scope, resolve_offline) for path, text in files.items()]
    return [f"{each.place} {each.code}" for each in assemble(read).findings]


def test_both_places_of_a_double_are_named() -> None:
    files = {"e.yaml": ENVIRONMENT, "a/app.yaml": app(), "b/app.yaml": app()}
    assert found(files) == ["b/app.yaml:3:18 declared_twice"]
    scope = Scope("org", "project")
    read = [read_file(text.encode(), path, "", scope, resolve_offline) for path, text in files.items()]
    assert "a/app.yaml:1" in assemble(read).findings[0].message


def test_a_file_that_cannot_be_read_is_the_only_news() -> None:
    """What it would have declared is not called unknown as well."""
    files = {"e.yaml": ENVIRONMENT, "app.yaml": USES_DATA, "volume.yaml": volume("data") + "---\na: b: c\n"}
    assert found(files) == ["volume.yaml:6:5 yaml_invalid"]
    files["volume.yaml"] = "a: b: c\n---\n" + volume("data")
    assert found(files) == ["volume.yaml:1:5 yaml_invalid"]


def test_a_manifest_with_a_mistake_still_counts_as_declared() -> None:
    files = {"e.yaml": ENVIRONMENT, "app.yaml": USES_DATA, "volume.yaml": volume("data", size="1Gb")}
    assert found(files) == ["volume.yaml:4:14 value_invalid"]


def test_a_route_to_a_broken_app_is_not_blamed() -> None:
    files = {
        "e.yaml": ENVIRONMENT,
        "app.yaml": app(more="      wrong: 1\n"),
        "route.yaml": route("r", "a", port="nope"),
    }
    assert found(files) == ["app.yaml:10:7 unknown_field"]


def test_findings_of_several_files_come_together_in_order() -> None:
    files = {"b.yaml": "kind: [", "e.yaml": ENVIRONMENT, "a.yaml": app(more="      wrong: 1\n      more: 2\n")}
    assert [each.split(":")[0] for each in found(files)] == ["a.yaml", "a.yaml", "b.yaml"]


def test_the_bound_of_resources() -> None:
    (resource,) = tree({"e.yaml": ENVIRONMENT}).resources.values()
    declared = Declared(Resource(resource.id, resource.spec, Origin("x.yaml", 1)))
    too_many = ManifestFile("x.yaml", (declared,) * (RESOURCES_MAX + 1))
    assert [each.code for each in assemble([too_many]).findings] == ["too_many_resources"]
