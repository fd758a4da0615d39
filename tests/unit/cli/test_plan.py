"""`trueup plan` without a controller: on a fleet that is imagined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kit.wire import MACHINE_OVERHEAD_BYTES
from reconciler.cli.main import main
from reconciler.cli.plan import plan_offline
from reconciler.core.preview.imagined import ImaginedFleet
from tests.integration.git.repository import Repository
from tests.unit.planner.trees import ENVIRONMENT, app, route, volume

ROOM_BYTES = (128 << 20) + MACHINE_OVERHEAD_BYTES["kvm"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit(
        {"env.yaml": ENVIRONMENT, "site.yaml": app(more="      replicas: 2\n"), "route.yaml": route("r", "site")}
    )
    return made


def bigger(repository: Repository, memory: str = "256Mi") -> None:
    repository.commit({"site.yaml": app(more="      replicas: 2\n").replace("128Mi", memory)})


@pytest.mark.parametrize("fleet", [None, ImaginedFleet(2, 4 << 30)])
def test_the_base_is_rolled_out_before(repository: Repository, fleet: ImaginedFleet | None) -> None:
    bigger(repository)
    plan = plan_offline(repository.path, base="HEAD~1", head="HEAD", fleet=fleet)
    (told,) = plan.roll_outs
    assert (told.starts, told.stops, told.at_once_max) == (2, 2, 3)
    assert (told.serving_before, told.serving_least, told.serving_after) == (2, 2, 2)
    assert {each.instance for each in told.steps if each.act == "drain"} == {"i-base-000001", "i-base-000002"}
    assert (told.placed is None) == (fleet is None)
    assert plan.fleet == ("simulated" if fleet else "unknown")
    assert any("Offline" in note for note in plan.notes)


def test_the_whole_base_takes_its_room(tmp_path: Path) -> None:
    """Ninety apps that the commit does not touch, each of 128 MiB and a machine's overhead."""
    repository = Repository(tmp_path / "repository")
    files = {f"a{number:02d}.yaml": app(f"a{number:02d}") for number in range(90)}
    repository.commit({"env.yaml": ENVIRONMENT, **files})
    repository.commit({"more.yaml": app("more").replace("128Mi", "1Gi")})
    plan = plan_offline(repository.path, base="HEAD~1", head="HEAD", fleet=ImaginedFleet(3, 30 * ROOM_BYTES))
    (told,) = plan.roll_outs
    assert told.unschedulable == "no_capacity_memory"
    assert "the most that is free is 0 MiB" in told.unschedulable_message
    assert plan_offline(repository.path, base="HEAD~1", head="HEAD", fleet=ImaginedFleet(4, 30 * ROOM_BYTES)).ok
    (use,) = plan.environments
    assert use.instances_before == 90


def test_from_nothing(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--repo", str(repository.path)]) == 0
    told = capsys.readouterr().out
    assert "+ create prod/app/site" in told
    assert "2 instances start" in told
    assert "from nothing" in told


def test_every_form_and_the_exit_code(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    bigger(repository)

    def run(*more: str) -> tuple[int, str]:
        code = main(["plan", "HEAD~1..HEAD", "--repo", str(repository.path), *more])
        return code, capsys.readouterr().out

    assert run()[0] == 0
    assert "spec.processes.web.memory_bytes: 128 MiB -> 256 MiB" in run()[1]
    document: Any = json.loads(run("--output", "json")[1])
    assert (document["ok"], document["changes"][0]["verb"], document["changes"][0]["resource"]) == (
        True,
        "update",
        "prod/app/site",
    )
    assert run("--output", "markdown")[1].startswith("<!-- trueup plan -->")
    bigger(repository, "lots")
    code, told = run()
    assert code == 1
    assert "site.yaml:8" in told
    assert "would be applied except prod/app/site" in told
    code, told = run("--on-error", "refuse-commit")
    assert code == 1
    assert "would be refused, and nothing would change" in told


def test_a_gap_and_a_confirmation_are_on_the_page(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    uses = "      volumes: [{name: data, path: /data}]\n"
    repository.commit({"site.yaml": app(more=uses), "data.yaml": volume("data"), "spare.yaml": volume("spare")})
    repository.commit({"site.yaml": app(more=uses).replace("128Mi", "256Mi")}, remove=("spare.yaml",))
    assert main(["plan", "HEAD~1..HEAD", "--repo", str(repository.path)]) == 0
    told = capsys.readouterr().out
    assert "no replica serves for at most 130 s (step 1 to 2)" in told
    assert "Trueup-Confirm-Delete: prod/site/volume/spare" in told


@pytest.mark.parametrize("more", [("--nodes", "0"), ("--nodes", "100000"), ("--memory", "8"), ("--memory", "much")])
def test_a_fleet_that_cannot_be(repository: Repository, more: tuple[str, ...]) -> None:
    assert main(["plan", "--repo", str(repository.path), *more]) == 2


def test_a_commit_that_is_not_there(repository: Repository) -> None:
    assert main(["plan", "nothing..HEAD", "--repo", str(repository.path)]) == 2
    assert main(["plan", "--repo", str(repository.path / "elsewhere")]) == 2
