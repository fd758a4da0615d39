"""What a reader of the change stream may ask for, as the one filter key that it then holds.

Called by `reconciler.server.streams`, and by `reconciler.server.history` for the audit read. A machine's filter is its
identity, never its query. People choose within their scope: `reconciler.core.permission.asked_place` fills in what a
bound token leaves out, and the guard has refused what is outside of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from multidict import MultiMapping

from reconciler.core.filters import ALL, EDGE, PARTS, PARTS_OF, PlaceFilter, node_key
from reconciler.core.permission import Identity, asked_place
from reconciler.server.problems import Problem

FILTERS = frozenset({*PARTS, "kind", "node", "edge"})
STREAM_QUERY = FILTERS | {"cursor", "wait", "snapshot"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Asked:
    """`key`: see `reconciler.core.filters`. `wait_s`: of a long poll; None: a stream."""

    key: str
    cursor: str
    wait_s: float | None
    snapshot: bool


def asked(identity: Identity, query: MultiMapping[str], wait_s_max: float) -> Asked:
    given = _once(query, STREAM_QUERY)
    snapshot = given.get("snapshot", "0")
    if snapshot not in ("0", "1"):
        raise Problem("invalid_argument", f"snapshot={snapshot[:20]!r} is not 1")
    if snapshot == "1" and given.get("cursor"):
        why = "a snapshot begins anew, a cursor goes on"
        raise Problem("invalid_argument", f"there is a cursor and a snapshot: {why}", fix="come with one of them")
    wait_s = _parse_wait(given.get("wait"), wait_s_max)
    return Asked(reader_key(identity, query), given.get("cursor", ""), wait_s, snapshot == "1")


def reader_key(identity: Identity, query: MultiMapping[str]) -> str:
    """The filter key of a caller, in the words of `reconciler.core.filters`."""
    given = _once(query, FILTERS)
    match identity.role:
        case "node" | "edge":
            if given:
                why = f"the filter of {identity} is its identity"
                raise Problem("forbidden", why, fix=f"leave out {', '.join(sorted(given))}")
            return node_key(identity.name) if identity.role == "node" else EDGE
        case "operator" | "token" | "oidc":
            return _machine_key(given) or _place_key(identity, given)
        case _:
            raise Problem("forbidden", f"a {identity.role} has no change stream")


def _machine_key(given: Mapping[str, str]) -> str:
    """The same filter as that machine's."""
    machine = next((name for name in ("node", "edge") if name in given), "")
    if not machine:
        return ""
    if len(given) > 1:
        raise _over_specified(f"{machine}= is a filter of its own", given)
    if machine == "edge":
        if given["edge"] != "1":
            raise Problem("invalid_argument", f"edge={given['edge'][:20]!r} is not 1: all edges see the same")
        return EDGE
    return node_key(given["node"])


def _place_key(identity: Identity, given: Mapping[str, str]) -> str:
    org, project = asked_place(identity.scope, given.get("org", ""), given.get("project", ""))
    wanted = {name: value for name, value in {**given, "org": org, "project": project}.items() if value}
    kind = wanted.get("kind", "")
    if kind and kind not in PARTS_OF:
        raise Problem("invalid_argument", f"kind={kind!r} is not known", fix=f"one of {', '.join(sorted(PARTS_OF))}")
    if project and not org:
        raise Problem("invalid_argument", "project= is within an organisation", fix="say org= too")
    if not project and wanted.keys() & {"env", "app"}:
        raise Problem("invalid_argument", "env= and app= are within a project", fix="say org= and project= too")
    beyond = sorted(set(PARTS[PARTS_OF[kind] :]) & wanted.keys()) if kind else []
    if beyond:
        raise _over_specified(f"what is of kind {kind} has no {beyond[0]}", wanted)
    return PlaceFilter(**wanted).key if wanted else ALL


def _over_specified(why: str, given: Mapping[str, str]) -> Problem:
    text = " ".join(f"{name}={value}" for name, value in sorted(given.items()))
    return Problem("invalid_argument", f"{text} matches nothing: {why}", fix="leave something out")


def _once(query: MultiMapping[str], names: frozenset[str]) -> dict[str, str]:
    """Those of `names` that are given. Of a filter a second value would be a second filter."""
    for name in sorted(names & query.keys()):
        values = query.getall(name)
        if len(values) > 1:
            raise Problem("invalid_argument", f"{name}= is given {len(values)} times", fix="give it once")
        if name in FILTERS and not _NAME.fullmatch(values[0]):
            raise Problem("invalid_argument", f"{name}={values[0][:80]!r} is no name")
    return {name: query[name] for name in names & query.keys()}


def _parse_wait(text: str | None, wait_s_max: float) -> float | None:
    if text is None:
        return None
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= wait_s_max:
        raise Problem("invalid_argument", f"wait={text[:20]!r} is not a number of seconds from 0 to {wait_s_max:g}")
    return wait_s
