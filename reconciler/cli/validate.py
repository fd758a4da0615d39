"""`trueup validate DIR`: are these manifests good? The same code as the controller's, without one, on plain files.

Values of secrets are not decrypted, so a value that is sealed for another platform is only found by the controller.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kit.codec import to_json
from kit.errors import TrueupError
from kit.plain_text import counted
from reconciler.cli import exits
from reconciler.cli.source_tree import findings_text, read_folder, show, summary_text
from reconciler.core.findings import Finding, errors
from reconciler.core.manifest import Scope
from reconciler.git.signers_file import SignersFile


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("validate", help="check the manifests in a folder", description=__doc__)
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="the folder with the manifests (default: .)")
    parser.add_argument("--signers", type=Path, metavar="FILE", help="check this signers file too (docs/SIGNERS.md)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    document, findings = validate(args.folder)
    if args.signers:
        document["signers"], wrong = read_signers(args.signers)
        findings = (*findings, *wrong)
        document |= {"ok": not errors(findings), "findings": to_json(findings)}
    show(document, render(document, findings), args.output)
    return exits.GENERIC if errors(findings) else exits.OK


def validate(folder: Path) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """The JSON document {folder, ok, resources [{resource, path, line}], findings [Finding]}, and the findings."""
    assembled = read_folder(folder, Scope("default", "default"))
    resources = [
        {"resource": identity.short, "path": each.origin.path, "line": each.origin.line}
        for identity, each in assembled.tree.resources.items()
    ]
    document = {
        "folder": str(folder),
        "ok": not errors(assembled.findings),
        "resources": resources,
        "findings": to_json(assembled.findings),
    }
    return document, assembled.findings


def read_signers(path: Path) -> tuple[list[str], tuple[Finding, ...]]:
    """The names in a signers file, and what is wrong with it."""
    try:
        policy = SignersFile(path).trust().policy
    except TrueupError as error:
        return [], (Finding(str(path), 0, 0, "", "signers_invalid", f"{error.attempted}: {error.why}", error.fix),)
    return sorted({key.signer.name for key in policy.keys.values()}), ()


def render(document: dict[str, Any], findings: tuple[Finding, ...]) -> str:
    resources = counted(len(document["resources"]), "resource")
    if "signers" in document:
        resources += f", {counted(len(document['signers']), 'signer')}"
    if not findings:
        return f"{document['folder']}: {resources}, all good"
    return f"{findings_text(findings)}\n\n{document['folder']}: {resources}, {summary_text(findings)}"
