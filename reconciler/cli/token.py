"""`trueup token create|list|revoke`: scoped, expiring tokens of people and CI, over HTTP. And tokens that are made from
the controller's key: `trueup token operator|webhook NAME`, and `node|edge NAME` for agents of earlier versions.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from kit.control_plane import ControlPlane
from kit.errors import Refusal
from kit.machine_names import MACHINE_KINDS
from reconciler.cli.client import REQUEST_TIMEOUT_S, add_connection_options, add_state_option, connect, state_folder
from reconciler.cli.output import Page, add_output_option, print_json, print_page

DESCRIPTION = """\
create, list, revoke: tokens of people and CI. What they may: read, look, act, remove, admit, grant. The others print a
token that is made with the key in the controller's state folder, so they run where the controller runs: of an operator;
of a webhook (NAME is the source, the token is the secret to give to the forge); of a node or an edge of an earlier
version, while the controller's machine_tokens is on. Those end when STATE/token.key is replaced. Machines join:
`trueup node token`, `trueup edge token`."""

_KEYED = ("node", "edge", "operator", "webhook")


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("token", help="tokens of people and CI", description=DESCRIPTION)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="role")
    create = actions.add_parser("create", help="make one; it is shown once")
    create.add_argument("name", metavar="NAME", help="who or what it is for")
    create.add_argument("--may", required=True, metavar="VERBS", help="read,look,act,remove,admit,grant")
    create.add_argument("--days", type=float, default=30.0, help="how long it is good (default 30, at most 366)")
    create.add_argument("--org", default="*", help="only of this organisation")
    create.add_argument("--project", default="*", help="only of this project")
    create.set_defaults(run=run_create)
    shown = actions.add_parser("list", help="all of them, without their secrets")
    shown.set_defaults(run=run_list)
    revoke = actions.add_parser("revoke", help="void one, its open streams too")
    revoke.add_argument("token_id", metavar="ID")
    revoke.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands in the history")
    revoke.set_defaults(run=run_revoke)
    for action in (create, shown, revoke):
        add_connection_options(action)
        add_output_option(action)
    for role in _KEYED:
        keyed = actions.add_parser(role, help=f"print the keyed token of a {role}")
        keyed.add_argument("name", metavar="NAME")
        add_state_option(keyed)
        add_output_option(keyed)
        keyed.set_defaults(run=run)


def run_create(args: argparse.Namespace) -> int:
    verbs = [verb.strip() for verb in args.may.split(",") if verb.strip()]
    document = {"name": args.name, "verbs": verbs, "days": args.days, "org": args.org, "project": args.project}

    async def ask(control_plane: ControlPlane) -> Any:
        return await control_plane.post_json("/v1/tokens", document, timeout_s=REQUEST_TIMEOUT_S)

    answer = _asked(args, ask)
    if args.output == "json":
        print_json(answer)
    else:
        sys.stdout.write(answer["token"] + "\n")
    return 0


def run_list(args: argparse.Namespace) -> int:
    async def ask(control_plane: ControlPlane) -> Any:
        return await control_plane.get_json("/v1/tokens", timeout_s=REQUEST_TIMEOUT_S)

    answer = _asked(args, ask)
    if args.output == "json":
        print_json(answer)
        return 0
    made = Page()
    columns = ("token", "name", "in", "may", "until", "by", "revoked")
    made.add("TOKENS", [], columns, map(_row, answer["tokens"]))
    print_page(made)
    return 0


def run_revoke(args: argparse.Namespace) -> int:
    async def ask(control_plane: ControlPlane) -> Any:
        path = f"/v1/tokens/{args.token_id}/revoke"
        return await control_plane.post_json(path, {"reason": args.reason}, timeout_s=REQUEST_TIMEOUT_S)

    answer = _asked(args, ask)
    if args.output == "json":
        print_json(answer)
    else:
        sys.stdout.write(f"token {args.token_id} is revoked\n")
    return 0


def run(args: argparse.Namespace) -> int:
    from reconciler.core.tokens import make_token
    from reconciler.keys import MACHINE_TOKENS, token_key

    state = state_folder(args)
    if args.role in MACHINE_KINDS and not (state / MACHINE_TOKENS).exists():
        raise _no_machine_tokens(args.role, args.name)
    if not state.is_dir():
        fix = "name the controller's state folder with --state"
        raise Refusal(
            f"make a token of {args.role} {args.name}", f"there is no folder {state}", fix=fix, code="not_found"
        )
    try:
        token = make_token(token_key(state), args.role, args.name)
    except ValueError as error:
        raise Refusal("make a token", str(error), code="usage") from error
    if args.output == "json":
        print_json({"role": args.role, "name": args.name, "token": token})
    else:
        sys.stdout.write(token + "\n")
    return 0


def _no_machine_tokens(role: str, name: str) -> Refusal:
    return Refusal(
        f"make a token of {role} {name}",
        "machines join and live on certificates; the controller takes no such token (machine_tokens is off)",
        fix=f"`trueup {role} token {name}` prints a token to join with",
        code="machine_tokens_off",
    )


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    place, may = f"{each['org']}/{each['project']}", ",".join(each["verbs"])
    return (each["token_id"], each["name"], place, may, each["expires_at"], each["created_by"], each["revoked"] or "-")


def _asked(args: argparse.Namespace, ask: Any) -> Any:
    async def asked() -> Any:
        async with connect(args) as control_plane:
            return await ask(control_plane)

    return asyncio.run(asked())
