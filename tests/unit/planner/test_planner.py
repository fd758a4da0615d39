"""What a plan does, and in which order."""

from __future__ import annotations

from reconciler.core.commands import DeclareResource, RemoveResource, RetainResource
from tests.unit.planner.trees import ENVIRONMENT, app, lines, planned, route, secret, volume

FULL = {
    "env.yaml": ENVIRONMENT,
    "app.yaml": app(),
    "route.yaml": route("r", "a"),
    "volume.yaml": volume("data"),
    "secret.yaml": secret("tls"),
}
CONFIRM = "Drop the data\n\nTrueup-Confirm-Delete: prod/site/volume/data\n"


def without(*paths: str) -> dict[str, str]:
    return {path: text for path, text in FULL.items() if path not in paths}


def test_from_nothing_in_the_order_of_need() -> None:
    assert lines(planned(None, FULL)) == [
        "create environment/prod",
        "create prod/site/secret/tls",
        "create prod/site/volume/data",
        "create prod/app/site",
        "create prod/site/route/r",
    ]


def test_the_same_tree_asks_for_nothing() -> None:
    assert planned(FULL, FULL).commands == ()


def test_a_changed_spec_is_one_update() -> None:
    result = planned(FULL, {**FULL, "app.yaml": app(more="      replicas: 3\n")})
    assert lines(result) == ["update prod/app/site"]
    command = result.commands[0]
    assert isinstance(command, DeclareResource)
    assert command.resource.spec["processes"]["web"]["replicas"] == 3
    assert (command.cause.commit, command.cause.path, command.cause.line) == ("c" * 40, "app.yaml", 1)


def test_a_moved_file_is_never_a_deletion() -> None:
    moved = {**without("volume.yaml", "app.yaml"), "elsewhere/v.yaml": FULL["volume.yaml"] + "---\n" + FULL["app.yaml"]}
    result = planned(FULL, moved)
    assert lines(result) == ["move prod/site/volume/data", "move prod/app/site"]
    assert all(isinstance(command, DeclareResource) for command in result.commands)


def test_a_port_that_a_route_names_moves_with_the_app() -> None:
    head = {**FULL, "app.yaml": app().replace("8443", "9443")}
    assert lines(planned(FULL, head)) == ["update prod/app/site", "update prod/site/route/r"]


def test_removal_goes_from_the_outside_in() -> None:
    result = planned(FULL, {"other.yaml": ENVIRONMENT.replace("prod", "dev")}, CONFIRM)
    assert lines(result) == [
        "delete prod/site/route/r",
        "create environment/dev",
        "delete prod/app/site",
        "delete prod/site/volume/data",
        "delete prod/site/secret/tls",
        "delete environment/prod",
    ]


def test_a_volume_stays_without_its_confirmation_and_the_rest_goes_on() -> None:
    result = planned(FULL, {**without("volume.yaml"), "app.yaml": app(more="      replicas: 2\n")})
    assert lines(result) == ["update prod/app/site", "retain prod/site/volume/data"]
    assert isinstance(result.commands[1], RetainResource)
    (warning,) = result.findings
    assert warning.severity == "warning"
    assert "Trueup-Confirm-Delete: prod/site/volume/data" in warning.fix
    assert (warning.path, warning.line) == ("volume.yaml", 1)


def test_a_volume_goes_with_its_confirmation() -> None:
    result = planned(FULL, without("volume.yaml"), CONFIRM)
    assert isinstance(result.commands[0], RemoveResource)
    assert not result.findings


def test_a_confirmation_is_for_one_volume() -> None:
    assert lines(planned(FULL, without("volume.yaml"), CONFIRM.replace("data", "date"))) == [
        "retain prod/site/volume/data"
    ]


def test_a_confirmation_in_the_middle_of_a_message_is_talk() -> None:
    talk = "Explain it\n\nTrueup-Confirm-Delete: prod/site/volume/data\n\nwould delete the data.\n"
    assert lines(planned(FULL, without("volume.yaml"), talk)) == ["retain prod/site/volume/data"]


def test_a_retained_volume_goes_with_a_later_empty_commit() -> None:
    kept = without("volume.yaml")
    assert lines(planned(kept, kept, retained=("prod/site/volume/data",))) == []
    confirmed = planned(kept, kept, CONFIRM, retained=("prod/site/volume/data",))
    assert lines(confirmed) == ["delete prod/site/volume/data"]


def test_a_retained_volume_that_comes_back_is_declared() -> None:
    assert lines(planned(without("volume.yaml"), FULL, retained=("prod/site/volume/data",))) == [
        "update prod/site/volume/data"
    ]


def test_a_secret_goes_with_its_app_but_not_alone() -> None:
    assert lines(planned(FULL, without("secret.yaml"))) == ["retain prod/site/secret/tls"]
    whole_app = without("secret.yaml", "app.yaml", "route.yaml", "volume.yaml")
    assert "delete prod/site/secret/tls" in lines(planned(FULL, whole_app))


def test_a_hostname_is_given_up_before_it_is_taken() -> None:
    base = {**FULL, "r1.yaml": route("r1", "one"), "r2.yaml": route("r2", "two")}
    shifted = {**FULL, "r1.yaml": route("r1", "two"), "r2.yaml": route("r2", "three")}
    assert lines(planned(base, shifted)) == ["update prod/site/route/r2", "update prod/site/route/r1"]
    taken = {**FULL, "r2.yaml": route("r2", "one")}
    assert lines(planned(base, taken)) == ["delete prod/site/route/r1", "update prod/site/route/r2"]


def test_two_routes_that_swap_are_both_updated() -> None:
    base = {**FULL, "r1.yaml": route("r1", "one"), "r2.yaml": route("r2", "two")}
    swapped = {**FULL, "r1.yaml": route("r1", "two"), "r2.yaml": route("r2", "one")}
    assert sorted(lines(planned(base, swapped))) == ["update prod/site/route/r1", "update prod/site/route/r2"]


def test_command_ids_say_commit_resource_and_verb() -> None:
    first, second = planned(None, FULL), planned(None, FULL)
    assert first == second
    ids = [command.command_id for command in first.commands]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {command.command_id for command in planned(FULL, {**without("route.yaml")}).commands}
