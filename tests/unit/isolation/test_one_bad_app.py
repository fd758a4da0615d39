"""Which app a mistake holds back, and that nothing of it and nobody else is touched."""

from __future__ import annotations

import pytest

from reconciler.core.findings import Finding
from reconciler.core.isolation import HELD_APPS_MAX
from reconciler.core.revisions import Rules
from tests.unit.isolation.followed import Followed, codes, held
from tests.unit.planner.trees import ENVIRONMENT, app, route, secret, volume

MORE = "      replicas: 2\n"


def site(name: str, more: str = "", host: str = "") -> dict[str, str]:
    return {
        f"{name}/app.yaml": app(name, more),
        f"{name}/route.yaml": route("r", host or name, name),
        f"{name}/volume.yaml": volume("data", app_name=name),
    }


def fleet(*names: str, more: str = "") -> dict[str, str]:
    files = {"env.yaml": ENVIRONMENT}
    for name in names or ("blog", "shop", "wiki"):
        files |= site(name, more)
    return files


def followed(*names: str) -> Followed:
    made = Followed()
    assert not codes(made.commit(fleet(*names)))
    return made


MISTAKES = {
    "not YAML": ({"shop/app.yaml": "kind: [App\n"}, "shop/app.yaml:2:1 yaml_invalid"),
    "an unknown field": ({"shop/app.yaml": app("shop", "      replicaz: 2\n")}, "shop/app.yaml:10:7 unknown_field"),
    "a wrong value": ({"shop/volume.yaml": volume("data", "lots", "shop")}, "shop/volume.yaml:4:14 value_invalid"),
    "a wrong port": ({"shop/route.yaml": route("r", "shop", "shop", "http")}, "shop/route.yaml:4:57 port_unknown"),
    "a missing volume": ({"shop/app.yaml": app("shop", "      volumes: [{name: no, path: /v}]\n")}, "volume_unknown"),
    "a second declaration": ({"copy.yaml": app("shop", MORE)}, "shop/app.yaml:3:18 declared_twice"),
    "an unknown environment": ({"shop/app.yaml": app("shop").replace("prod", "prd")}, ""),
    "a secret that is none": (
        {"shop/s.yaml": secret("tls", app_name="shop").replace("AGE ENCRYPTED", "AGE")},
        "shop/s.yaml",
    ),
}


@pytest.mark.parametrize(("change", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_holds_its_app_back_and_the_others_go_on(change: dict[str, str], told: str) -> None:
    made = followed()
    judged = made.commit({**fleet(more=MORE), **change})
    assert codes(judged) == []
    (_, findings) = next(each for each in held(judged).items() if each[0] == "shop")
    assert any(told in each for each in findings), findings
    assert {each.resource_id.short for each in judged.plan.changes} == {"prod/app/blog", "prod/app/wiki"}  # type: ignore[union-attr]
    again = made.commit(fleet(more=MORE))
    assert (held(again), codes(again)) == ({}, [])
    assert "org/project/prod/shop/app/shop" in again.released
    fresh = Followed()
    fresh.commit(fleet(more=MORE))
    assert made.rows == fresh.rows


def test_an_app_that_was_never_there_is_held_back_too() -> None:
    made = followed("blog")
    judged = made.commit({**fleet("blog", more=MORE), **site("shop", "      replicaz: 1\n")})
    assert list(held(judged)) == ["shop"]
    assert not any("shop" in name for name in made.names()), "no part of it begins"
    assert held(made.commit({**fleet("blog"), **site("shop")})) == {}
    assert "prod/shop/route/r" in made.names(), "the parts that were good already come now"


def test_a_new_file_that_nobody_can_read_is_nobodys() -> None:
    made = followed("blog")
    judged = made.commit({**fleet("blog", more=MORE), "new.yaml": "kind: {\n"})
    assert list(held(judged)) == [""]
    assert judged.held[0].files == ("new.yaml",)
    assert [each.resource_id.short for each in judged.plan.changes] == ["prod/app/blog"]  # type: ignore[union-attr]


def test_nothing_is_deleted_while_a_new_file_cannot_be_read() -> None:
    """The wiki was moved into a file that cannot be read, or was it removed?"""
    for moved in ("kind: {\n", app("wiki") + "---\nkind: {\n"):
        made = followed()
        files = {path: text for path, text in fleet(more=MORE).items() if not path.startswith("wiki/")}
        judged = made.commit({**files, "moved.yaml": moved})
        assert "wiki" in held(judged)
        assert "prod/wiki/route/r" in made.names()
        judged = made.commit({**files, "moved.yaml": "kind: {\n"})
        assert "wiki" in held(judged), "what is known of a file is not forgotten while it cannot be read"
        judged = made.commit(files)
        assert held(judged) == {}
        assert not any("wiki" in name for name in made.names())


def test_a_file_that_stays_unreadable_does_not_keep_others_from_going() -> None:
    made = followed()
    broken = {**fleet(), "shop/app.yaml": "kind: {\n"}
    made.commit(broken)
    without = {path: text for path, text in broken.items() if not path.startswith("wiki/")}
    judged = made.commit(without)
    assert list(held(judged)) == ["shop"]
    assert "prod/app/wiki" not in made.names()
    assert "prod/app/shop" in made.names()


def test_what_lived_from_a_mistaken_file_is_not_gone() -> None:
    """A new name and a mistake in one change: the old app must not go while the new one cannot come."""
    made = followed("shop", "blog")
    judged = made.commit({**fleet("blog"), "shop/app.yaml": app("store", "      replicaz: 1\n")})
    assert set(held(judged)) == {"shop", "store"}
    assert {"prod/app/shop", "prod/shop/route/r"} <= made.names()


def test_a_held_app_keeps_its_hostname_and_who_wants_it_waits() -> None:
    made = followed("blog", "shop", "wiki")
    files = {**fleet("wiki", more=MORE), **site("blog", host="free"), **site("shop", host="blog")}
    judged = made.commit({**files, "blog/app.yaml": app("blog", "      replicaz: 1\n")})
    assert set(held(judged)) == {"blog", "shop"}
    assert "shop/route.yaml:4:18 hostname_twice" in held(judged)["shop"]
    assert held(made.commit(files)) == {}
    assert [made.rows[f"org/project/prod/{each}/route/r"]["spec"]["hostname"] for each in ("blog", "shop")] == [
        "free.example.test",
        "blog.example.test",
    ]


def test_of_two_that_want_a_hostname_the_one_that_has_it_keeps_it() -> None:
    made = followed("shop", "blog")
    judged = made.commit({**fleet("shop", more=MORE), **site("blog", host="shop")})
    assert list(held(judged)) == ["blog"]
    made = Followed()
    judged = made.commit({**fleet("wiki"), **site("shop", host="same"), **site("blog", host="same")})
    assert set(held(judged)) == {"blog", "shop"}, "neither had it"


def test_what_the_live_system_has_against_an_app_holds_it_back() -> None:
    made = followed()
    shop = "org/project/prod/shop/app/shop"
    finding = Finding("shop/route.yaml", 1, 0, "", "hostname_taken", "shop belongs to another source")
    judged = made.commit(fleet(more=MORE), against={shop: (finding,)})
    assert held(judged) == {"shop": ["shop/route.yaml:1 hostname_taken"]}
    assert made.commit(fleet(more=MORE)).plan.changes[0].resource_id.short == "prod/app/shop"  # type: ignore[union-attr]


def test_a_held_app_that_is_removed_reverted_or_mended() -> None:
    for then in (fleet("blog"), fleet("blog", "shop"), {**fleet("blog", "shop"), **site("shop", MORE)}):
        made = followed("blog", "shop")
        made.commit({**fleet("blog", "shop"), "shop/app.yaml": "kind: {\n"})
        judged = made.commit(then)
        assert (held(judged), codes(judged)) == ({}, [])
        fresh = Followed()
        fresh.commit(then)
        assert made.live() == fresh.live()


def test_a_whole_environment_stays_while_one_of_its_apps_is_held() -> None:
    made = Followed()
    other = ENVIRONMENT.replace("prod", "test")
    files = {**fleet("blog"), "test.yaml": other}
    shop = {path: text.replace("prod", "test") for path, text in site("shop").items()}
    made.commit({**files, **shop})
    judged = made.commit({**fleet("blog"), **shop, "shop/app.yaml": shop["shop/app.yaml"] + "      replicaz: 1\n"})
    assert "environment/test" in made.names()
    assert set(held(judged)) == {"shop"}
    assert held(made.commit(fleet("blog"))) == {}
    assert "environment/test" not in made.names()


COMMON = {
    "an environment with a mistake": {"env.yaml": ENVIRONMENT.replace("prod}", "prod, nme: x}")},
    "an unreadable environment": {"env.yaml": "kind: {\n"},
    "an environment declared twice": {"more.yaml": ENVIRONMENT},
    "defaults of everything": {"defaults.yaml": "apiVersion: trueup/v1\nkind: Defaults\nspec: {procezz: {}}\n"},
    "an overlay of nobody": {"over.yaml": "apiVersion: trueup/v1\nkind: Overlay\ntarget: {kind: App}\npatch: {a: 1}\n"},
}


@pytest.mark.parametrize("change", COMMON.values(), ids=COMMON)
def test_what_is_nobodys_own_refuses_the_whole_commit(change: dict[str, str]) -> None:
    made = followed()
    before = dict(made.rows)
    judged = made.commit({**fleet(more=MORE), **change})
    assert codes(judged)
    assert (judged.plan, judged.held, made.rows) == (None, (), before)


def test_the_operator_may_want_all_or_nothing() -> None:
    made = Followed(Rules(on_error="refuse-commit"))
    made.commit(fleet())
    judged = made.commit({**fleet(more=MORE), "shop/app.yaml": app("shop", "      replicaz: 1\n")})
    assert (codes(judged), judged.held) == (["unknown_field"], ())
    finding = Finding("", 0, 0, "", "hostname_taken", "no")
    judged = made.commit(fleet(more=MORE), against={"org/project/prod/shop/app/shop": (finding,)})
    assert codes(judged) == ["hostname_taken"]


DEFAULTS = "apiVersion: trueup/v1\nkind: Defaults\nspec: {process: {cpu: %s}}\n"
OVERLAY = (
    "apiVersion: trueup/v1\nkind: Overlay\ntarget: {kind: App, name: shop, env: prod}\npatch: {processes: {web: %s}}\n"
)


def test_defaults_with_a_mistake_hold_back_all_below_them() -> None:
    made = followed()
    files = fleet(more=MORE)
    judged = made.commit({**files, "shop/defaults.yaml": DEFAULTS % "lots", "shop/more/x.yaml": app("inner")})
    assert set(held(judged)) == {"shop", "inner"}
    judged = made.commit({**files, "shop/defaults.yaml": "kind: {\n"})
    assert set(held(judged)) == {"shop"}
    assert held(made.commit({**files, "shop/defaults.yaml": DEFAULTS % "2"})) == {}
    assert made.rows["org/project/prod/shop/app/shop"]["spec"]["processes"]["web"]["cpu"] == 2


def test_what_lives_from_below_unreadable_defaults_stays() -> None:
    """They said the environment; without them the manifests speak of another one."""
    test = ENVIRONMENT.replace("prod", "test")
    defaults = "apiVersion: trueup/v1\nkind: Defaults\nmetadata: {env: %s}\n"
    nowhere = app("shop").replace(", env: prod", "")
    made = Followed()
    files = {"env.yaml": ENVIRONMENT, "test.yaml": test, "a/defaults.yaml": defaults % "prod", "a/b/app.yaml": nowhere}
    made.commit({**files, "a/b/defaults.yaml": defaults % "test"})
    assert "test/app/shop" in made.names()
    judged = made.commit({**files, "a/b/defaults.yaml": "kind: {\n"})
    assert {each.short for each in judged.held} == {"prod/app/shop", "test/app/shop"}
    assert made.names() == {"environment/prod", "environment/test", "test/app/shop"}


def test_an_overlay_with_a_mistake_holds_back_what_it_lies_over() -> None:
    made = Followed()
    good = {**fleet(), "over/shop.yaml": OVERLAY % "{replicas: 7}"}
    made.commit(good)
    for bad in (OVERLAY % "{replicaz: 7}", "kind: {\n"):
        judged = made.commit({**good, "over/shop.yaml": bad, **site("blog", MORE)})
        assert "shop" in held(judged)
        judged = made.commit({**good, "over/shop.yaml": bad})
        assert "shop" in held(judged), "also when the applied commit had the mistake already"
        assert made.rows["org/project/prod/shop/app/shop"]["spec"]["processes"]["web"]["replicas"] == 7
    moved = {path: text for path, text in good.items() if path != "over/shop.yaml"} | {"else.yaml": "kind: {\n"}
    assert "shop" in held(made.commit(moved)), "it may be in the file that cannot be read"
    assert held(made.commit(good)) == {}


def test_a_commit_that_breaks_very_many_apps_is_refused() -> None:
    many = [f"a{number}" for number in range(HELD_APPS_MAX + 1)]
    made = Followed()
    files = {"env.yaml": ENVIRONMENT, **{f"{name}.yaml": app(name) for name in many}}
    made.commit(files)
    broken = {path: text.replace("memory", "memori") for path, text in files.items()}
    judged = made.commit(broken)
    assert "too_many_held" in codes(judged) or "too_many_findings" in codes(judged)
    assert judged.plan is None
    broken[f"{many[0]}.yaml"] = files[f"{many[0]}.yaml"]
    assert len(made.commit(broken).held) == HELD_APPS_MAX


def test_too_many_deletions_are_not_hidden_by_a_held_app() -> None:
    made = Followed()
    routes = {f"r{number}.yaml": route(f"r{number}", f"h{number}", "shop") for number in range(30)}
    made.commit({**fleet(), **routes})
    judged = made.commit({**fleet(), "shop/app.yaml": "kind: {\n"})
    assert (list(held(judged)), codes(judged)) == (["shop"], [])
    assert len([name for name in made.names() if "shop/route" in name]) == 31
    assert codes(made.commit(fleet())) == ["too_many_deletions"]
