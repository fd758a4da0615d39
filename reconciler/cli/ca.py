"""`trueup ca status|rotate-issuer|rotate-root|drop-root`: the keys that make the certificates of machines.

They work on the authority's folder, on a host that has it. Controllers take a change over by themselves within seconds;
one that runs is asked who has been certified since. How a rotation goes, and why each step has to wait, is said in
`reconciler.certificates.rotation`, and for operators in docs/runbooks/certificates.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kit.errors import Refusal, Transient, TrueupError
from kit.setting_values import parse_seconds
from reconciler.certificates.folder import AuthorityFolder, told_as_refusal
from reconciler.certificates.rotation import AFTER, Found, Step, drop_root, look, rotate_issuer, rotate_root
from reconciler.certificates.signing import name_of
from reconciler.cli.ca_page import SHOWN_MAX, behind, page, status, text_of
from reconciler.cli.client import add_connection_options, fetch, state_folder
from reconciler.cli.output import Page, add_output_option, print_json, print_page
from reconciler.keys import AUTHORITY

DESCRIPTION = """\
A new root: rotate-root; an hour later rotate-root again; another hour later drop-root. Each may be interrupted and
repeated, while controllers run; status says what comes next. Machines that are away for the whole time join anew."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("ca", help="the authority of machines", description=DESCRIPTION)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    made = {name: actions.add_parser(name, help=text, description=DESCRIPTION) for name, text in _TEXTS.items()}
    for name, action in made.items():
        action.add_argument("--ca-folder", metavar="DIR", help="its files (or TRUEUP_CA_FOLDER; default STATE/ca)")
        add_connection_options(action)
        add_output_option(action)
        action.set_defaults(run=_RUN[name])
    for name in ("rotate-root", "drop-root"):
        late = "how long ago the step before has to be (default 1h); less, only when no machine is behind"
        made[name].add_argument("--after", type=_duration, default=AFTER, metavar="DURATION", help=late)
    stolen = "what the former key made counts no more: every machine joins anew"
    made["rotate-issuer"].add_argument("--stolen", action="store_true", help=stolen)


def run_status(args: argparse.Namespace) -> int:
    files = _files(args)
    with told_as_refusal(files.path):
        found = look(files)
    try:
        document = status(found, fetch(args, "/v1/authority"), "")
    except TrueupError as error:
        document = status(found, None, error.why)
    if args.output == "json":
        print_json(document)
    else:
        print_page(page(document))
    return 0


def run_rotate_issuer(args: argparse.Namespace) -> int:
    files = _own_files(args)
    with told_as_refusal(files.path):
        step = rotate_issuer(files, datetime.now(UTC), stolen=args.stolen)
    former = "counts no more" if args.stolen else "is good until it ends"
    return _print(args, step, f"{step.what} makes certificates now; what the former one made {former}")


def run_rotate_root(args: argparse.Namespace) -> int:
    files = _own_files(args)
    with told_as_refusal(files.path):
        found = look(files)
        if found.coming is not None and not found.unfinished:
            _nobody_behind(args, found)
        step = rotate_root(files, datetime.now(UTC), args.after)
    _not_waiting("let the new root issue", "machines learn of it", step)
    if step.result == "distributing":
        return _print(args, step, f"{step.what} is trusted from now on; it issues after `trueup ca rotate-root` at")
    return _print(args, step, f"{step.what} issues now; the former one ends with `trueup ca drop-root` at")


def run_drop_root(args: argparse.Namespace) -> int:
    files = _own_files(args)
    with told_as_refusal(files.path):
        found = look(files)
        if found.coming is None and found.former:
            _nobody_behind(args, found)
        step = drop_root(files, datetime.now(UTC), args.after)
    _not_waiting("drop the former root", "machines get certificates under the new one", step)
    text = "there is no root but" if step.result == "nothing" else "trusted no more:"
    return _print(args, step, f"{text} {step.what}")


_RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "status": run_status,
    "rotate-issuer": run_rotate_issuer,
    "rotate-root": run_rotate_root,
    "drop-root": run_drop_root,
}
_TEXTS = {
    "status": "roots, issuer, and which machines have a certificate of a former one",
    "rotate-issuer": "a new key that makes certificates, under the same root",
    "rotate-root": "the next step to a new root",
    "drop-root": "trust no root any more but the one that issues",
}


def _nobody_behind(args: argparse.Namespace, found: Found) -> None:
    """For who will not wait as long as certificates live; after that nobody who lives can be behind."""
    if args.after >= AFTER:
        return
    seen, now = fetch(args, "/v1/authority"), datetime.now(UTC)
    living = [each for each in seen["machines"] if datetime.fromisoformat(each["not_after"]) > now]
    late = behind(found, living)
    if found.coming is None:  # another issuer under the present root is good enough
        late = [each for each in late if each["root"] != name_of(found.root)]
    if late or seen["more"]:
        who = ", ".join(each["identity_id"] for each in late[:SHOWN_MAX]) or "they are too many to look at"
        fix = "wait until they have renewed (half an hour), or for the hour"
        raise Transient("go on within the hour", f"machines are behind: {who}", fix=fix, code="rotation_too_early")


def _files(args: argparse.Namespace) -> AuthorityFolder:
    path = Path(args.ca_folder or os.environ.get("TRUEUP_CA_FOLDER") or state_folder(args) / AUTHORITY)
    if not path.is_dir():
        fix = "name it with --ca-folder, or the controller's state folder with --state"
        raise Refusal("find the authority", f"there is no folder {path}", fix=fix, code="not_found")
    return AuthorityFolder(path)


def _own_files(args: argparse.Namespace) -> AuthorityFolder:
    """To change them: what somebody else wrote there, a controller could not read."""
    files = _files(args)
    owner = files.path.stat().st_uid
    if owner != os.geteuid():
        fix = f"run it as the user of the controller (uid {owner}): sudo -u '#{owner}' trueup ca ..."
        raise Refusal(f"change {files.path}", "it belongs to another user", fix=fix, code="forbidden")
    return files


def _not_waiting(attempted: str, meanwhile: str, step: Step) -> None:
    if step.result == "waiting" and step.ready_at is not None:
        why = f"{meanwhile} until {text_of(step.ready_at)}"
        raise Transient(attempted, why, fix="the same command after that", code="rotation_too_early")


def _print(args: argparse.Namespace, step: Step, text: str) -> int:
    at = text_of(step.ready_at) if step.ready_at is not None else ""
    if args.output == "json":
        print_json({"result": step.result, "what": step.what, "ready_at": at})
    else:
        made = Page()
        made.add("", [f"{text} {at}".strip()])
        print_page(made)
    return 0


def _duration(text: str) -> timedelta:
    try:
        return timedelta(seconds=parse_seconds(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
