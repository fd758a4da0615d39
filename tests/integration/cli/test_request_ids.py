"""One id from an agent or an operator through the controller's log into the events, and back by `trueup events`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from agent.report import Reporter
from edge.report import Reporter as EdgeReporter
from kit.clock import SystemClock
from kit.codec import to_json
from kit.control_plane import ControlPlane
from kit.errors import Refusal
from kit.wire import EdgeReport, Enrolment, VolumeReport
from tests.integration.cli.test_controller import Fleet, fleet

__all__ = ["fleet"]


def lines(caplog: pytest.LogCaptureFixture, component: str, **fields: Any) -> list[Any]:
    found = [getattr(each, "fields", {}) for each in caplog.records if each.name == f"trueup.{component}"]
    return [each for each in found if fields.items() <= each.items()]


async def test_the_events_of_a_request_are_found_by_its_id(
    fleet: Fleet, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")

    async def events_of(request_id: str) -> list[str]:
        capsys.readouterr()
        assert await fleet.run("events", "--request", request_id, "--output", "json") == 0
        return [each["event_type"] for each in json.loads(capsys.readouterr().out)["events"]]

    async with fleet.machine("node", "node-a") as node, fleet.machine("edge", "edge-a") as edge:
        enrolment = Enrolment("node-a", "fd00:0:0:1::/64", 4 << 30, 2.0, 10 << 30, "age1x", "tcg", "0.1.0")
        await node.post_json("/v1/nodes/node-a/enrol", to_json(enrolment))
        (sent,) = lines(caplog, "control-plane", path="/v1/nodes/node-a/enrol")
        (taken,) = lines(caplog, "http", request_id=sent["request_id"], status=200)
        assert taken["identity"] == "node:node-a"
        assert await events_of(sent["request_id"]) == ["node.enrolled"]

        async def post_node(document: Any) -> Any:
            return await node.post_json("/v1/nodes/node-a/reports", document)

        reporter = Reporter(tmp_path, "node-a", post_node, random.Random(1))
        reporter.push(VolumeReport("nobodys", 0, "available", ""))
        await reporter.send_once()
        (told,) = lines(caplog, "report", reports=1)
        assert lines(caplog, "control-plane", request_id=told["request_id"])
        assert lines(caplog, "http", request_id=told["request_id"], path="/v1/nodes/node-a/reports")

        async def post_edge(document: Any) -> Any:
            return await edge.post_json("/v1/edges/edge-a/reports", document)

        await EdgeReporter(post_edge, SystemClock())._tell("log", EdgeReport("edge-a", 1, ""))
        (told,) = lines(caplog, "report", routes=0)
        assert lines(caplog, "http", request_id=told["request_id"], path="/v1/edges/edge-a/reports")

    caplog.clear()
    assert await fleet.run("node", "disable", "node-a", "--reason", "maintenance") == 0
    (written,) = lines(caplog, "http", path="/v1/nodes/node-a/disable")
    assert await events_of(written["request_id"]) == ["node.duty_changed"]
    assert lines(caplog, "acts", request_id=written["request_id"]), "every line of the request has it"

    async with ControlPlane(fleet.url, (fleet.state / "operator.token").read_text().strip()) as operator:
        with pytest.raises(Refusal) as refused:
            await operator.get_json("/v1/nope")
        (line,) = lines(caplog, "http", path="/v1/nope")
        assert f"(request {line['request_id']})" in str(refused.value)
