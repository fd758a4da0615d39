"""What a manifest says about its own removal: protection, and a confirmation ahead of it. And renames."""

from __future__ import annotations

import pytest

from reconciler.core.findings import Finding
from reconciler.core.revisions import Rules
from reconciler.git.judge import Judged
from tests.unit.isolation.followed import Files, Followed, codes, held
from tests.unit.planner.trees import ENVIRONMENT, app, route, secret, volume

SITE = {
    "env.yaml": ENVIRONMENT,
    "app.yaml": app(),
    "route.yaml": route("r", "site"),
    "volume.yaml": volume("data"),
    "secret.yaml": secret("tls"),
}


def marked(path: str, mark: str) -> str:
    return SITE[path].replace("metadata: {", f"metadata: {{{mark}, ")


def without(files: Files, path: str) -> Files:
    return {name: text for name, text in files.items() if name != path}


def followed(**marks: str) -> tuple[Followed, Files]:
    files = {**SITE, **{f"{name}.yaml": marked(f"{name}.yaml", mark) for name, mark in marks.items()}}
    made = Followed()
    assert not codes(made.commit(files))
    return made, files


def verbs(judged: Judged) -> list[str]:
    return [f"{each.verb} {each.resource_id.short}" for each in (judged.plan.changes if judged.plan else ())]


def finding(judged: Judged, code: str) -> Finding:
    (found,) = [each for each in judged.findings if each.code == code]
    return found


@pytest.mark.parametrize("name", ["env", "app", "route", "volume", "secret"])
def test_what_is_protected_is_not_removed_until_a_commit_took_that_away(name: str) -> None:
    path = f"{name}.yaml"
    made, files = followed(**{name: "protect: true"})
    gone = {"env": {"dev.yaml": ENVIRONMENT.replace("prod", "dev")}, "app": {"env.yaml": ENVIRONMENT}}.get(
        name, without(files, path)
    )
    confirmed = "Go\n\nTrueup-Confirm-Delete: prod/site/volume/data\nTrueup-Confirm-Delete: prod/site/secret/tls"
    judged = made.commit(gone, confirmed)
    told = finding(judged, "protected")
    assert (told.path, told.line) == (path, 3)
    assert f"{path}:3" in told.message
    assert f"protect: true out at {path}:3" in told.fix
    free = made.commit({**files, path: SITE[path]})
    assert (codes(free), [each.partition(" ")[0] for each in verbs(free)]) == ([], ["mark"])
    assert codes(made.commit(gone, confirmed)) == []
    assert not any(text.endswith(told.message.split()[0].rpartition("/")[2]) for text in made.rows if name != "app")


def test_the_same_commit_cannot_take_the_protection_away_and_use_that() -> None:
    made, files = followed(volume="protect: true")
    smaller = {**files, "volume.yaml": volume("data", "512Mi")}
    told = finding(made.commit(smaller), "protected")
    assert "1024Mi to 512Mi" in told.message
    bigger = {**files, "volume.yaml": volume("data", "2Gi")}
    assert verbs(made.commit(bigger)) == ["update prod/site/volume/data"]
    assert codes(made.commit({**files, "volume.yaml": volume("data", "512Mi")})) == [], "it is gone since the last one"


def test_the_line_of_the_protection_is_told() -> None:
    text = ENVIRONMENT.replace("{name: prod}", "\n  name: prod\n  protect: true")
    made = Followed()
    made.commit({"env.yaml": text})
    told = finding(made.commit({"dev.yaml": ENVIRONMENT.replace("prod", "dev")}), "protected")
    assert (told.path, told.line) == ("env.yaml", 5)


def test_protection_holds_for_a_held_app_as_it_is_live() -> None:
    """The applied commit's manifest could not be read; what is live was protected."""
    made, files = followed(volume="protect: true")
    assert list(held(made.commit({**files, "volume.yaml": "kind: {\n"}))) == ["site"]
    gone = without(files, "volume.yaml")
    assert codes(made.commit(gone, "Go\n\nTrueup-Confirm-Delete: prod/site/volume/data")) == ["protected"]


@pytest.mark.parametrize(("path", "short"), [("volume.yaml", "volume/data"), ("secret.yaml", "secret/tls")])
def test_a_removal_that_a_commit_before_confirmed(path: str, short: str) -> None:
    made, files = followed()
    announced = {**files, path: marked(path, "removal: confirmed")}
    judged = made.commit(announced)
    assert verbs(judged) == [f"mark prod/site/{short}"]
    assert (finding(judged, "removal_confirmed").severity, judged.plan is not None) == ("warning", True)
    assert verbs(made.commit(without(announced, path))) == [f"delete prod/site/{short}"]


def test_a_manifest_that_comes_and_goes_with_the_mark_in_one_look_confirms_nothing() -> None:
    made, files = followed()
    made.commits.add({**files, "volume.yaml": marked("volume.yaml", "removal: confirmed")}, "not looked at")
    judged = made.commit(without(files, "volume.yaml"))
    assert verbs(judged) == ["retain prod/site/volume/data"]
    assert "removal: confirmed" in finding(judged, "volume_retained").fix


def test_a_confirmation_can_be_taken_back() -> None:
    made, files = followed(volume="removal: confirmed")
    made.commit({**files, "volume.yaml": SITE["volume.yaml"]})
    assert verbs(made.commit(without(files, "volume.yaml"))) == ["retain prod/site/volume/data"]


def test_a_new_name_is_said_to_be_a_new_thing() -> None:
    made, files = followed()
    judged = made.commit({**files, "volume.yaml": volume("database")})
    assert verbs(judged) == ["create prod/site/volume/database", "retain prod/site/volume/data"]
    told = finding(judged, "renamed")
    assert (told.severity, told.place) == ("warning", "volume.yaml:1")
    assert "prod/site/volume/data seems to become prod/site/volume/database" in told.message
    assert "confirmed" in told.fix


def test_a_moved_file_is_no_new_name() -> None:
    made, files = followed()
    judged = made.commit({**without(files, "volume.yaml"), "elsewhere.yaml": files["volume.yaml"]})
    assert (verbs(judged), judged.findings) == (["move prod/site/volume/data"], ())


def test_how_much_may_go_at_once_is_the_operators() -> None:
    routes = {f"r{number}.yaml": route(f"r{number}", f"h{number}") for number in range(9)}
    strict, none = Followed(Rules(deletions_max=2, deletions_share=0.1)), Followed(Rules(deletions_max=0))
    for made in (strict, none):
        made.commit({**SITE, **routes})
        assert codes(made.commit({**SITE, "r0.yaml": routes["r0.yaml"]})) == ["too_many_deletions"]
    assert codes(strict.commit({**SITE, **dict(list(routes.items())[2:])})) == []
    assert codes(none.commit({**SITE, **dict(list(routes.items())[2:])})) == [], "two of thirteen is a small share"


def test_protected_and_confirmed_cannot_both_be_meant() -> None:
    made, files = followed()
    judged = made.commit({**files, "volume.yaml": marked("volume.yaml", "protect: true, removal: confirmed")})
    assert held(judged) == {"site": ["volume.yaml:3:36 protected_and_removed"]}
    judged = made.commit({**files, "route.yaml": marked("route.yaml", "removal: confirmed")})
    assert held(judged) == {"site": ["route.yaml:3:21 removal_needless"]}
