"""`trueup state --at MOMENT [KIND|RESOURCE]`: the answer of GET /v1/state as a page.

The state of then is folded from the log by `reconciler.core.past`; nothing is stored twice. A kind is a table, one
thing is told with every field.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reconciler.cli.client import add_connection_options, fetch
from reconciler.cli.output import Page, print_json, print_page

Doc = Mapping[str, Any]

DESCRIPTION = """\
The state as it was. MOMENT is an event (1234), a time (2026-01-31T10:00:00Z; without a zone it is UTC: the last event
at or before it), a commit (right after it was applied; digits alone as commit:1234567), or now. KIND is app, route,
volume, secret, environment, instance, node, deployment, release, revision, source or act; RESOURCE as in
`trueup why`."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("state", help="the state as it was", description=DESCRIPTION)
    parser.add_argument("of", nargs="?", default="", metavar="KIND|RESOURCE", help="only this; else everything")
    parser.add_argument("--at", default="now", metavar="MOMENT", help="default: now")
    add_connection_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    document = fetch(args, "/v1/state", {"at": args.at, "of": args.of})
    if args.output == "json":
        print_json(document)
    else:
        from reconciler.core.past import is_kind

        print_page(page(document, one=bool(args.of) and not is_kind(args.of)))
    return 0


def page(document: Doc, *, one: bool = False) -> Page:
    """`one`: a single thing was asked for, so it is told in full."""
    made = Page()
    made.add("", [f"as of event {document['event_id']}, {document['at'] or 'before the first event'}"])
    made.add("NOT TOLD", [f"{name} does not follow the log: {why}" for name, why in document["broken"].items()])
    views = document["views"]
    rows = [(view, each) for view, found in views.items() for each in found]
    if not rows:
        made.add("", ["there was nothing of it then"])
    elif one and len(rows) == 1:
        view, row = rows[0]
        made.add(row["key"], [], ("field", "value"), _flat(row["doc"]))
    else:
        for view, found in views.items():
            omitted = document["omitted"].get(view, 0)
            note = [f"{omitted} more are left out: name a kind or a resource"] if omitted else []
            columns, cells = _TABLES[view]
            made.add(view.upper(), note, columns, (cells(each["key"], each["doc"]) for each in found))
    return made


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name in sorted(value):
            yield from _flat(value[name], f"{path}.{name}".strip("."))
    elif isinstance(value, list) and value:
        for number, each in enumerate(value):
            yield from _flat(each, f"{path}.{number}")
    else:
        yield path, "-" if value in ("", None, {}, []) else str(value)


def _commit(doc: Doc) -> str:
    return str((doc.get("origin") or {}).get("commit", ""))[:12] or "-"


def _place(doc: Doc) -> str:
    origin = doc.get("origin") or {}
    return f"{origin['path']}:{origin['line']}" if origin.get("path") else "-"


_Cells = Callable[[str, Doc], tuple[Any, ...]]
_TABLES: Mapping[str, tuple[tuple[str, ...], _Cells]] = {
    "sources": (
        ("source", "branch", "applied", "refused", "url"),
        lambda key, d: (key, d["branch"], d["applied_commit"][:12] or "-", d["refused_commit"][:12] or "-", d["url"]),
    ),
    "revisions": (
        ("revision", "status", "author", "subject"),
        lambda key, d: (key, d["status"], d["author"], d["subject"]),
    ),
    "resources": (
        ("resource", "status", "retained", "commit", "at"),
        lambda key, d: (key, d["status"] or "-", d["retained"] or "-", _commit(d), _place(d)),
    ),
    "releases": (
        ("release", "number", "state", "commit", "app"),
        lambda key, d: (key, d["number"], d["state"], _commit(d), d["app"]),
    ),
    "deployments": (
        ("deployment", "status", "kind", "reason", "release", "app"),
        lambda key, d: (key, d["status"], d["kind"], d["reason"], d["release_id"], d["app"]),
    ),
    "instances": (
        ("instance", "node", "desired", "status", "release", "process", "app"),
        lambda key, d: (
            key,
            d["node_id"],
            d["desired"],
            d["status"] or "allocated",
            d["release_id"],
            d["process"],
            d["app"],
        ),
    ),
    "nodes": (
        ("node", "state", "memory", "subnet", "reason"),
        lambda key, d: (key, d["state"], f"{d['memory_bytes'] >> 20} MiB", d["subnet"], d["reason"] or "-"),
    ),
    "acts": (
        ("act", "what", "by", "since", "until", "reason"),
        lambda key, d: (d["act"], key, d["actor"], d["since"], d["until"] or "-", d["reason"]),
    ),
    "identities": (
        ("machine", "state", "joined", "generation", "reason"),
        lambda key, d: (key, d["state"], d.get("joined_at", "-"), d["generation"], d["reason"] or "-"),
    ),
    "tokens": (
        ("token", "name", "in", "may", "until", "revoked"),
        lambda key, d: (
            key,
            d["name"],
            f"{d['org']}/{d['project']}",
            " ".join(d["verbs"]),
            d["expires_at"],
            d["revoked"] or "-",
        ),
    ),
    "deliveries": (
        ("secret", "node", "last version", "last instance", "at"),
        lambda key, d: (
            d["resource_id"],
            d["node_id"],
            d["versions"][-1]["version_id"],
            d["versions"][-1]["instance_id"],
            d["versions"][-1]["at"],
        ),
    ),
    "quotas": (
        ("scope", "limits"),
        lambda key, d: (key, " ".join(f"{name}={limit}" for name, limit in d["limits"].items()) or "-"),
    ),
    "snapshots": (
        ("snapshot", "status", "volume", "node", "reason"),
        lambda key, d: (key, d["status"], d["volume_id"], d["node_id"], d["reason_code"] or "-"),
    ),
    "backups": (
        ("backup", "status", "volume", "snapshot", "reason"),
        lambda key, d: (key, d["status"], d["volume_id"], d["snapshot_id"], d["reason_code"] or "-"),
    ),
    "restores": (
        ("restore", "status", "volume", "of", "reason"),
        lambda key, d: (key, d["status"], d["volume_id"], d["origin_id"], d["reason_code"] or "-"),
    ),
    "tombstones": (("volume", "node"), lambda key, d: (d["resource_id"], d["node_id"])),
}
