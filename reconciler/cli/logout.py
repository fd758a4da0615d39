"""`trueup logout [CONTROLLER]`: forgets a login, and takes back what came with it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from kit.errors import Refusal, TrueupError
from reconciler.cli.output import clean, print_json

if TYPE_CHECKING:
    from reconciler.cli.logins import Login

DESCRIPTION = """\
The refresh token of an OIDC login is taken back at its issuer, if that lets one. A token that was given to `trueup
login` may be used elsewhere too: it is only forgotten, unless --revoke-token is given. Whatever cannot be taken back,
it is forgotten here."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("logout", help="forget a login", description=DESCRIPTION)
    parser.add_argument(
        "controller", nargs="?", default="", metavar="CONTROLLER", help="its address; else the last one"
    )
    parser.add_argument("--revoke-token", action="store_true", help="void the token itself, wherever else it is used")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from reconciler.cli.logins import Logins

    logins = Logins.of(os.environ)
    controller = (args.controller or logins.current()).rstrip("/")
    login = logins.find(controller) if controller else None
    if login is None:
        raise Refusal("log out", f"there is no login at {controller or 'any controller'}", code="not_found")
    told = asyncio.run(_take_back(login, args.revoke_token))
    logins.forget(controller)
    if args.output == "json":
        print_json({"controller": controller, "identity": login.identity, "taken_back": told})
    else:
        sys.stdout.write(f"logged out of {clean(controller)}: {clean(told)}\n")
    return 0


async def _take_back(login: Login, revoke_token: bool) -> str:
    try:
        if login.oidc is not None:
            return await _at_the_issuer(login)
        return await _at_the_controller(login) if revoke_token else "the token itself is still good"
    except TrueupError as error:
        return f"nothing was taken back: {error.why}"


async def _at_the_issuer(login: Login) -> str:
    from reconciler.cli.issuer_login import take_back
    from reconciler.oidc.fetching import IssuerHttp

    assert login.oidc is not None
    if await take_back(login.oidc, IssuerHttp()):
        return "the issuer took the refresh token back"
    return "the issuer takes nothing back; end the session there"


async def _at_the_controller(login: Login) -> str:
    from kit.control_plane import ControlPlane
    from reconciler.cli.client import tls_of

    async with ControlPlane(login.controller, login.token, tls=tls_of("", login)) as control_plane:
        await control_plane.post_json("/v1/logout", {})
    return "the token is revoked"
