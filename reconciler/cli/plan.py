"""`trueup plan BASE..HEAD`: what would this diff do? From any local clone; with or without a controller.

Without one it is the controller's own judgement of a commit (validation, plan, guards), then its scheduler on a fleet
that is imagined (`reconciler.core.preview.imagined`): --nodes and --memory say how large. With --against live the
controller plans the same commits on what runs now (GET /v1/plan); they have to be in its clone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from kit.codec import from_json, to_json
from kit.errors import Refusal
from reconciler.cli import exits
from reconciler.cli.client import add_connection_options, fetch
from reconciler.cli.output import Page, print_json, print_page
from reconciler.cli.source_tree import commit_named, findings_text, open_clone
from reconciler.core.normalise import parse_size
from reconciler.core.preview import Asked, PlanDocument, wording
from reconciler.core.preview.document import RollOut
from reconciler.core.preview.imagined import ImaginedFleet, imagined
from reconciler.core.preview.markdown import markdown
from reconciler.core.revisions import DEFAULT_RULES, OnError, Rules, Source
from reconciler.git.judge import Judged, judge, reader_for
from reconciler.git.signatures import SignatureCheck
from reconciler.git.signers_file import SignersFile
from reconciler.vault import resolve_offline

DESCRIPTION = """\
What a commit would change, restart and interrupt, and what it still needs to be confirmed. Without a controller it
is planned on an imagined fleet; --against live asks the controller. For example: trueup plan origin/main..HEAD"""
MEMORY = "8Gi"
MAKE = "make a plan"


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("plan", help="what a diff would do", description=DESCRIPTION)
    parser.add_argument(
        "range", nargs="?", default="HEAD", help="BASE..HEAD, or one commit to plan from nothing (default: HEAD)"
    )
    parser.add_argument("--repo", default=Path(), type=Path, help="a local clone (default: .)")
    parser.add_argument("--path", default="", help="the folder of the repository that holds the manifests")
    parser.add_argument("--signers", type=Path, metavar="FILE", help="check the signatures too (docs/SIGNERS.md)")
    parser.add_argument("--nodes", type=int, metavar="N", help="imagine so many nodes (default: room for everything)")
    parser.add_argument("--memory", metavar="SIZE", help=f"of each imagined node (default: {MEMORY})")
    parser.add_argument("--against", choices=("imagined", "live"), default="imagined", help="the fleet to plan on")
    parser.add_argument("--source", default="main", help="with --against live: the source (default: main)")
    parser.add_argument(
        "--output", choices=("table", "json", "markdown"), default="table", help="for people, programs, pull requests"
    )
    parser.add_argument(
        "--on-error", choices=get_args(OnError), default=DEFAULT_RULES.on_error, help="as the controller's"
    )
    parser.add_argument("--deletions-max", type=int, default=DEFAULT_RULES.deletions_max, help="as the controller's")
    parser.add_argument(
        "--deletions-share", type=float, default=DEFAULT_RULES.deletions_share, help="as the controller's"
    )
    add_connection_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    base, dots, head = args.range.rpartition("..")
    head = (head or "HEAD") if dots else args.range
    if args.against == "live":
        plan = plan_live(args, base=base, head=head)
    else:
        signatures = SignatureCheck(SignersFile(args.signers).trust(), datetime.now(UTC)) if args.signers else None
        plan = plan_offline(
            args.repo,
            base=base,
            head=head,
            path=args.path,
            rules=_rules(args),
            fleet=_fleet(args),
            signatures=signatures,
        )
    if args.output == "json":
        print_json(to_json(plan))
    elif args.output == "markdown":
        sys.stdout.write(markdown(plan))
    else:
        print_page(page(plan))
    return exits.OK if plan.ok else exits.GENERIC


def plan_offline(
    repository: Path,
    *,
    base: str,
    head: str,
    path: str = "",
    rules: Rules = DEFAULT_RULES,
    fleet: ImaginedFleet | None = None,
    signatures: SignatureCheck | None = None,
) -> PlanDocument:
    """`base` and `head` are anything that names a commit; no `base`: from nothing. `Refusal` ("usage") otherwise."""
    source = Source("main", "default", "default", str(repository), path=path, rules=rules)
    objects = open_clone(repository, MAKE)
    base_commit = commit_named(objects, base, MAKE) if base else ""
    head_commit = commit_named(objects, head, MAKE)
    reader = reader_for(source, objects, resolve_offline)
    before = judge(source, objects, reader, head=base_commit, base="") if base else None
    after = judge(source, objects, reader, head=head_commit, base=base_commit, signatures=signatures)
    return imagined(_asked(source, before) if before else None, _asked(source, after), fleet)


def plan_live(args: argparse.Namespace, *, base: str, head: str) -> PlanDocument:
    """The names are resolved here; the controller is asked about commit ids."""
    objects = open_clone(args.repo, MAKE)
    query = {"source": args.source, "head": commit_named(objects, head, MAKE), "base": ""}
    query["base"] = commit_named(objects, base, MAKE) if base else ""
    return from_json(PlanDocument, fetch(args, "/v1/plan", query))


def page(plan: PlanDocument) -> Page:
    made = Page()
    base = plan.base[:12] or "nothing"
    heading = f"Plan for {plan.commit[:12]} ({plan.subject}), from {base}"
    made.add(heading, [wording.verdict(plan), wording.basis_text(plan)])
    made.add("FINDINGS", findings_text(plan.findings).split("\n") if plan.findings else [])
    made.add("HELD BACK", _held(plan))
    made.add("CHANGES", _changes(plan))
    for each in plan.roll_outs:
        if each.by_commit:
            _roll_out(made, each)
    made.add("ROUTES", [f"{wording.SIGNS[each.verb]} {wording.route_text(each)}" for each in plan.routes])
    made.add("NODES", map(wording.node_text, plan.nodes))
    made.add("ENVIRONMENTS", map(wording.environment_text, plan.environments))
    made.add("TO CONFIRM", (f"{each.line}    {each.why}" for each in plan.confirmations))
    for each in plan.roll_outs:
        if not each.by_commit:
            _roll_out(made, each, "moving anyway: ")
    made.add("NOT KNOWN", plan.notes)
    return made


def _held(plan: PlanDocument) -> Iterable[str]:
    for each in plan.held:
        yield wording.held_line(each)
        yield from (f"    {line}" for line in findings_text(each.findings).split("\n"))


def _changes(plan: PlanDocument) -> Iterable[str]:
    width = max((len(each.resource) for each in plan.changes), default=0)
    for each in plan.changes:
        yield f"{wording.SIGNS[each.verb]} {each.verb:<6} {each.resource:<{width}}  {wording.change_text(each)}"
        yield from (f"    {wording.field_text(field)}" for field in each.fields)


def _roll_out(made: Page, each: RollOut, prefix: str = "") -> None:
    rows = [(str(step.step), step.act, step.instance, step.at, step.reason) for step in each.steps]
    heading = f"{prefix}{each.app} {each.process}"
    made.add(heading, [wording.roll_out_text(each)], ("step", "", "instance", "node", "reason"), rows)


def _rules(args: argparse.Namespace) -> Rules:
    return Rules(args.on_error, args.deletions_max, args.deletions_share)


def _fleet(args: argparse.Namespace) -> ImaginedFleet | None:
    if args.nodes is None and args.memory is None:
        return None
    try:
        memory_bytes = parse_size(args.memory or MEMORY)
    except (ValueError, KeyError) as error:
        why = f"--memory {args.memory} is not a size like 512Mi or 8Gi"
        raise Refusal(MAKE, why, fix="write the unit: Mi or Gi", code="usage") from error
    return ImaginedFleet(1 if args.nodes is None else args.nodes, memory_bytes)


def _asked(source: Source, judged: Judged) -> Asked:
    return Asked(
        source,
        judged.info,
        judged.base,
        judged.plan,
        judged.findings,
        judged.base,
        signatures=judged.signatures,
        held=judged.held,
    )
