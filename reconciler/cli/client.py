"""Where the controller is and how to prove who asks, or where its database is. Used by the commands that talk to them.

A flag, else the environment, else a file that the controller wrote into its state folder: STATE/controller.url and
STATE/operator.token. What `trueup login` keeps (`reconciler.cli.logins`) comes before a state folder that nobody named.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import Refusal
from reconciler.keys import CONTROLLER_URL, OPERATOR_TOKEN

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from kit.control_plane import ControlPlane
    from reconciler.cli.logins import Login
    from reconciler.store.store import Store

FILE_BYTES_MAX = 4096
PAGE_ROWS = 10_000
REQUEST_TIMEOUT_S = 35.0  # longer than the controller takes to say that it gives up


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--controller", metavar="URL", help="address of the controller (or TRUEUP_CONTROLLER)")
    parser.add_argument("--token", metavar="TOKEN", help="better in TRUEUP_TOKEN, or `trueup login`")
    parser.add_argument(
        "--roots", metavar="FILE", help="the platform's roots, for its own TLS port (or TRUEUP_ROOTS; see trueup login)"
    )
    add_state_option(parser)


def add_state_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", metavar="DIR", help="the controller's state folder (or TRUEUP_STATE; default .state)"
    )


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """For a command that works on the database itself."""
    parser.add_argument("--database-url", metavar="URL", help="the controller's (or TRUEUP_DATABASE_URL)")
    add_state_option(parser)


def database_url(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> str:
    """Empty: the embedded one in the state folder."""
    return args.database_url or environ.get("TRUEUP_DATABASE_URL", "")


def opened_store(args: argparse.Namespace) -> AbstractAsyncContextManager[Store]:
    from reconciler.store.opening import store_of

    return store_of(state_folder(args), database_url(args))


def state_folder(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Path:
    return Path(args.state or environ.get("TRUEUP_STATE") or ".state")


def connect(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> ControlPlane:
    """Not connected yet, but with everything that is needed. `Refusal` says what is missing."""
    from kit.control_plane import ControlPlane
    from reconciler.cli.logins import Logins

    state, logins = state_folder(args, environ), Logins.of(environ)
    folder_named = bool(args.state or environ.get("TRUEUP_STATE"))
    url = controller_url(args, environ) or ("" if folder_named else logins.current())
    url = (url or _read(state / CONTROLLER_URL, "usage")).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Refusal(f"reach the controller at {url}", "that is not an http:// or https:// address", code="usage")
    login, given = logins.find(url), args.token or environ.get("TRUEUP_TOKEN", "")
    tls = tls_of(args.roots or environ.get("TRUEUP_ROOTS", ""), login)
    if login is not None and not given and not folder_named:
        from reconciler.cli.stored_token import StoredToken

        return ControlPlane(url, StoredToken(logins, login), tls=tls)
    return ControlPlane(url, given or _read(state / OPERATOR_TOKEN, "unauthorized"), tls=tls)


def controller_url(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> str:
    """As somebody named it; empty when nobody did."""
    return str(args.controller or environ.get("TRUEUP_CONTROLLER", ""))


def tls_of(roots_file: str, login: Login | None) -> ssl.SSLContext | None:
    """None: what the system trusts."""
    from kit.machine_identity import trusting

    roots = login.roots if login is not None else ""
    if roots_file:
        try:
            roots = Path(roots_file).read_text()
        except OSError as error:
            raise Refusal(f"read the roots {roots_file}", str(error.strerror), code="usage") from error
    try:
        return trusting(roots) if roots else None
    except (ssl.SSLError, ValueError) as error:
        raise Refusal("use the platform's roots", str(error), fix="give STATE/ca/bundle.pem", code="usage") from error


def fetch(args: argparse.Namespace, path: str, query: Mapping[str, str | int] | None = None) -> Any:
    """One document from the controller."""
    given: dict[str, Any] = dict(query or {})

    async def ask() -> Any:
        async with connect(args) as control_plane:
            return await control_plane.get_json(path, timeout_s=REQUEST_TIMEOUT_S, **given)

    return asyncio.run(ask())


def view_rows(args: argparse.Namespace, view: str) -> dict[str, Any]:
    """All rows of a view, by key."""
    rows: dict[str, Any] = {}
    after: str | None = ""
    while after is not None:
        page = fetch(args, f"/v1/views/{view}", {"limit": PAGE_ROWS, "after": after})
        rows |= {row["key"]: row["doc"] for row in page["rows"]}
        after = page["next"]
    return rows


def _read(path: Path, code: str) -> str:
    what = "find the controller" if path.name == CONTROLLER_URL else "find the operator's token"
    option = "--controller" if path.name == CONTROLLER_URL else "--token"
    try:
        with path.open() as handle:
            return handle.read(FILE_BYTES_MAX).strip()
    except OSError as error:
        why = f"{path} cannot be read: {error.strerror}"
        fix = f"`trueup login URL`, or name the controller's state folder with --state, or give {option}"
        raise Refusal(what, why, fix=fix, code=code) from error
