"""`trueup plan BASE..HEAD`: what would this diff do? From any local clone, without a controller.

It is the controller's own judgement of a commit: validation, plan, guards. Two things it cannot know: what is retained
in the live system, and whether secrets decrypt; a secret that was only encrypted anew shows as an update here.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kit.codec import to_json
from kit.errors import Refusal, TrueupError
from reconciler.cli import exits
from reconciler.cli.source_tree import counted, findings_text, show, summary_text
from reconciler.core.findings import Finding, errors
from reconciler.core.revisions import Source
from reconciler.git.judge import Judged, judge, reader_for
from reconciler.git.objects import ObjectStore
from reconciler.git.signatures import SignatureCheck
from reconciler.git.signers_file import SignersFile
from reconciler.vault import resolve_offline

_SIGNS = {"create": "+", "update": "~", "move": ">", "delete": "-", "retain": "!"}


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("plan", help="what a diff would do", description=__doc__)
    parser.add_argument(
        "range", nargs="?", default="HEAD", help="BASE..HEAD, or one commit to plan from nothing (default: HEAD)"
    )
    parser.add_argument("--repo", default=Path(), type=Path, help="a local clone (default: .)")
    parser.add_argument("--path", default="", help="the folder of the repository that holds the manifests")
    parser.add_argument("--signers", type=Path, metavar="FILE", help="check the signatures too (docs/SIGNERS.md)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    base, dots, head = args.range.rpartition("..")
    newest = (head or "HEAD") if dots else args.range
    signatures = SignatureCheck(SignersFile(args.signers).trust(), datetime.now(UTC)) if args.signers else None
    judged = plan_commits(args.repo, base=base, head=newest, path=args.path, signatures=signatures)
    show(document(judged), render(judged), args.output)
    return exits.GENERIC if errors(judged.findings) else exits.OK


def plan_commits(
    repository: Path, *, base: str, head: str, path: str = "", signatures: SignatureCheck | None = None
) -> Judged:
    """`base` and `head` are anything that names a commit; no `base`: from nothing. `Refusal` ("usage") otherwise."""
    source = Source("main", "default", "default", str(repository), path=path)
    try:
        objects = ObjectStore(repository)
        base_commit = objects.resolve(base) if base else ""
        head_commit = objects.resolve(head)
    except TrueupError as error:
        fix = "name a local clone with --repo, and commits that are in it"
        raise Refusal("make a plan", f"{error.attempted}: {error.why}", fix=fix, code="usage") from error
    reader = reader_for(source, objects, resolve_offline)
    return judge(source, objects, reader, head=head_commit, base=base_commit, signatures=signatures)


def document(judged: Judged) -> dict[str, Any]:
    """{commit, base, ok, author, subject, signatures [{commit, signer, kind, fingerprint, machine}],
    changes [{verb, resource, path, line}], findings [Finding]}."""
    planned = judged.plan
    changes = [
        {"verb": each.verb, "resource": each.resource_id.short, "path": each.path, "line": each.line}
        for each in (planned.changes if planned else ())
    ]
    return {
        "commit": judged.info.commit,
        "base": judged.base,
        "ok": not errors(judged.findings),
        "author": judged.info.author,
        "subject": judged.info.subject,
        "signatures": to_json(judged.signatures),
        "changes": changes,
        "findings": to_json(judged.findings),
    }


def render(judged: Judged) -> str:
    parts = [_heading(judged), _table(judged), _verdict(judged)]
    return "\n".join(part for part in parts if part)


def _heading(judged: Judged) -> str:
    return f"Plan for {judged.info.commit[:12]} ({judged.info.subject}), from {judged.base[:12] or 'nothing'}"


def _table(judged: Judged) -> str:
    if judged.plan is None:
        return ""
    if not judged.plan.changes:
        return "  no changes"
    changes = judged.plan.changes
    width = max(len(each.resource_id.short) for each in changes)
    return "\n".join(
        f"  {_SIGNS[each.verb]} {each.verb:<6} {each.resource_id.short:<{width}}  {each.path}:{each.line}"
        for each in changes
    )


def _verdict(judged: Judged) -> str:
    findings: tuple[Finding, ...] = judged.findings
    said = f"\n{findings_text(findings)}\n" if findings else ""
    if errors(findings):
        return f"{said}\nThe commit would be refused, and nothing would change: {summary_text(findings)}"
    count = counted(len(judged.plan.changes) if judged.plan else 0, "change")
    return f"{said}\n{count}; {summary_text(findings)}"
