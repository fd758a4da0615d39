"""What `trueup status` says."""

from __future__ import annotations

from kit.wire import MACHINE_OVERHEAD_BYTES
from tests.unit.cli.asking import World
from tests.unit.cli.story import BAD

PAGE = """\
2 problems (event 19)

PROBLEMS
  main: commit bbbbbbbbbbbb was refused with 1 finding: apps/site.yaml:9:5 unknown field 'replicsa'
  prod/app/site: instance i-0002 on node-b is unready (healthcheck_failed)

SOURCES
  SOURCE  BRANCH  APPLIED       STATE    REFUSED       FETCHED   LED BY  SUBJECT
  main    main    aaaaaaaaaaaa  applied  bbbbbbbbbbbb  not here  nobody  Serve the site

APPS
  APP            PROCESS  READY  STATE    RELEASE  COMMIT
  prod/app/site  web      1/2    failing  r-one    aaaaaaaaaaaa

ROUTES
  ROUTE                 HOSTNAME              STATE    BACKENDS  EDGES
  prod/site/route/site  site.example.org:443  rolling  1         none

VOLUMES
  VOLUME                       HOME  STATUS  STATE
  prod/site/volume/notes-data  -     -       rolling

NODES
  NODE    STATE   HEARTBEAT  READY  MEMORY PROMISED  OF        ACCELERATOR  AGENT
  node-a  active  2 s ago    1/1    424 MiB          4096 MiB  tcg          0.1.0
  node-b  active  not yet    0/1    424 MiB          4096 MiB  tcg          0.1.0
"""


async def test_a_page_in_full() -> None:
    world = World()
    await world.story.site()
    await world.story.status("i-0002", "node-b", "unready", "healthcheck_failed", "timeout")
    await world.story.refused(BAD, "More")
    page = await world.status_page()
    assert page.split("\nPROJECTIONS")[0] == PAGE
    assert "  instances    19     0       0.0 s\n" in page


async def test_without_problems_it_says_so_first() -> None:
    world = World()
    await world.story.site()
    assert (await world.status_page()).startswith("all is as Git says (event 17)\n")
    document = await world.status()
    assert (document["problems"], document["deployments"]) == (0, [])


async def test_the_views_lag_is_said_first() -> None:
    world = World()
    await world.story.site()
    world.views.held_at = 10
    assert (await World.status_page(world)).startswith(
        "all is as Git says, 1 deployment rolling (event 10, the views are 7 events behind)\n"
    )


async def test_rolling_deployments_are_listed() -> None:
    world = World()
    await world.story.site()
    await world.story.release("r-two", "d-two", "c" * 40, 2)
    document = await world.status()
    assert [each["deployment_id"] for each in document["deployments"]] == ["d-two"]
    assert document["apps"][0]["state"] == "rolling"


async def test_a_stopped_instance_promises_no_memory() -> None:
    world = World()
    await world.story.site()
    await world.story.status("i-0001", "node-a", "stopped")
    document = await world.status()
    overhead = MACHINE_OVERHEAD_BYTES["tcg"]
    assert [node["memory_promised_bytes"] for node in document["nodes"]] == [0, (128 << 20) + overhead]
