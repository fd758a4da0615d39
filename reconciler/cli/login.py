"""`trueup login [CONTROLLER]`: proves who one is, once; every command uses it from then on.

With a token, or through an OIDC issuer that the controller names. Nothing is kept before the controller has said who
that is. Whom the controller's certificate is from is never learnt by asking the controller itself: for the platform's
own TLS port the fingerprint of its roots is given.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import Refusal, Transient
from reconciler.cli.client import REQUEST_TIMEOUT_S
from reconciler.cli.output import clean, print_json
from reconciler.cli.whoami import print_who

if TYPE_CHECKING:
    from reconciler.cli.issuer_login import Offer
    from reconciler.cli.logins import Login, OidcLogin

DESCRIPTION = """\
Without --oidc and --token-file: through the issuer that the controller names, if there is one, else the token is asked
for. An https:// address of the platform's own port (the one of the machines) needs --fingerprint: the SHA-256 of
STATE/ca/bundle.pem, from the controller's host. Other https:// addresses are checked as the system does."""
TOKEN_CHARS_MAX = 8000


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("login", help="prove who you are, once", description=DESCRIPTION)
    parser.add_argument(
        "controller", nargs="?", default="", metavar="CONTROLLER", help="its address; else the last one"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--oidc", default="", metavar="NAME", help="through this issuer")
    how.add_argument(
        "--token-file", default="", metavar="FILE", help="with the token in this file; - is standard input"
    )
    parser.add_argument("--fingerprint", default="", metavar="HEX", help="SHA-256 of the platform's roots")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    login, who = asyncio.run(_log_in(args))
    if args.output == "json":
        print_json({"controller": login.controller, **who})
    else:
        print_who(login.controller, who)
    return 0


async def _log_in(args: argparse.Namespace) -> tuple[Login, Any]:
    from kit.clock import SystemClock
    from reconciler.cli.issuer_login import log_in
    from reconciler.cli.logins import Login, Logins
    from reconciler.oidc.fetching import IssuerHttp

    logins = Logins.of(os.environ)
    controller = _controller(args.controller or os.environ.get("TRUEUP_CONTROLLER", "") or logins.current())
    roots = await _roots(controller, args.fingerprint.replace(":", "").lower())
    offer = None if args.token_file else _chosen(await _offers(controller, roots), args.oidc)
    oidc: OidcLogin | None = None
    if offer is None:
        token = _token(args.token_file)
    else:
        token, oidc = await log_in(offer, _show, SystemClock(), IssuerHttp())
    who = await _get(controller, roots, "/v1/whoami", token)
    login = Login(controller, token, who["identity"], roots, oidc)
    logins.keep(login)
    return login, who


def _controller(given: str) -> str:
    from reconciler.cli.logins import is_safe_to_send

    controller = given.rstrip("/")
    if not controller:
        raise Refusal("log in", "no controller is named", fix="trueup login https://CONTROLLER", code="usage")
    if not controller.startswith(("http://", "https://")):
        raise Refusal(f"log in at {controller}", "that is not an https:// address", code="usage")
    if not is_safe_to_send(controller):
        why = "over http:// everybody in between could read the token"
        fix = "name its https:// address: a proxy's, or the platform's own port with --fingerprint"
        raise Refusal(f"log in at {controller}", why, fix=fix, code="usage")
    return controller


async def _roots(controller: str, fingerprint: str) -> str:
    """Empty: what the system trusts."""
    from kit.control_plane import ControlPlane
    from kit.machine_identity import trusting_nobody

    if not fingerprint:
        return ""
    if not controller.startswith("https://"):
        raise Refusal(f"log in at {controller}", "--fingerprint is for https://", code="usage")
    async with ControlPlane(controller, tls=trusting_nobody()) as nobody_yet:
        bundle = str((await nobody_yet.get_json("/v1/trust")).get("bundle", ""))
    if hashlib.sha256(bundle.encode()).hexdigest() != fingerprint:
        raise Refusal(
            f"log in at {controller}",
            "its roots have another fingerprint",
            fix="look who answers at that address; sha256sum STATE/ca/bundle.pem on the controller's host",
            code="controller_foreign",
        )
    return bundle


async def _offers(controller: str, roots: str) -> list[Offer]:
    from reconciler.cli.issuer_login import Offer

    answer = await _get(controller, roots, "/v1/login", "")
    return [
        Offer(
            **{name: str(each[name]) for name in ("name", "issuer", "client_id", "bearer")},
            scopes=tuple(map(str, each["scopes"])),
            hosts=tuple(map(str, each["hosts"])),
        )
        for each in answer["issuers"]
    ]


def _chosen(offers: list[Offer], name: str) -> Offer | None:
    """None: with a token."""
    known = ", ".join(each.name for each in offers) or "none"
    if name:
        found = [each for each in offers if each.name == name]
        if not found:
            raise Refusal(
                f"log in through {name}", f"the controller knows no such issuer; it knows {known}", code="usage"
            )
        return found[0]
    if len(offers) > 1:
        raise Refusal(
            "log in", "there are several ways", fix=f"--oidc with one of {known}, or --token-file", code="usage"
        )
    return offers[0] if offers else None


def _token(file: str) -> str:
    if file == "-":
        text = sys.stdin.read(TOKEN_CHARS_MAX + 1)
    elif file:
        try:
            with Path(file).open() as handle:
                text = handle.read(TOKEN_CHARS_MAX + 1)
        except OSError as error:
            raise Refusal(f"read the token in {file}", str(error.strerror), code="usage") from error
    elif sys.stdin.isatty():
        text = getpass.getpass("token: ")
    else:
        fix = "give it with --token-file - on standard input"
        raise Refusal("log in", "there is no terminal to ask for the token", fix=fix, code="usage")
    token = text.strip()
    if not token or len(token) > TOKEN_CHARS_MAX or not token.isascii() or not token.isprintable() or " " in token:
        raise Refusal("log in", "that is no token", fix="`trueup token create` makes one", code="usage")
    return token


async def _get(controller: str, roots: str, path: str, token: str) -> Any:
    from kit.control_plane import ControlPlane
    from kit.machine_identity import trusting

    try:
        async with ControlPlane(controller, token, tls=trusting(roots) if roots else None) as control_plane:
            return await control_plane.get_json(path, timeout_s=REQUEST_TIMEOUT_S)
    except Transient as error:
        if "CERTIFICATE_VERIFY_FAILED" not in error.why:
            raise
        why = "its certificate is of nobody that this system trusts"
        fix = "for the platform's own port give --fingerprint: sha256sum STATE/ca/bundle.pem on the controller's host"
        raise Refusal(f"log in at {controller}", why, fix=fix, code="controller_foreign") from error


def _show(text: str) -> None:
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()
