"""What happens around every handler: request id, authorisation, time limit, errors, access log.

A middleware of `reconciler.server.app`. It decides in this order: who is asking (401), too often (429), is there
such a route (404, 405: only told to those who are known), may they (403), then the handler. Whatever is raised becomes
one problem+json. A route that is not in the route table does not exist, so nothing is open by omission.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from aiohttp import HttpVersion10, web
from aiohttp.typedefs import Middleware

from kit import logs, request_ids
from kit.errors import TrueupError
from kit.machine_names import MACHINE_KINDS
from reconciler.core.permission import Identity, Thing, allow
from reconciler.oidc.issuers import Issuers
from reconciler.oidc.token_text import looks_like_jwt
from reconciler.server.auth import check_authorization
from reconciler.server.connections import address_of
from reconciler.server.deps import Deps
from reconciler.server.draining import DRAINING
from reconciler.server.former_tokens import FormerTokens
from reconciler.server.problems import Problem, problem_bytes, problem_of
from reconciler.server.rates import Rates
from reconciler.server.requests import known_query, sound_words
from reconciler.server.standing import PEER, Peer, Standing
from reconciler.server.table import ENDS_AT_S, IDENTITY, REQUEST_ID, Budget, Handler, Route

_access = logs.get("http")


class Guard:
    """`routes`: the aiohttp route of each entry of the table."""

    def __init__(
        self,
        deps: Deps,
        routes: Mapping[web.AbstractRoute, Route],
        standing: Standing,
        former_tokens: FormerTokens,
    ) -> None:
        self._deps = deps
        self._standing = standing
        self._former_tokens = former_tokens
        self._routes = routes
        self._rates = Rates(deps.limits)

    def middleware(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._answer(request, handler)

        return guard

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started_s = self._deps.clock.now_s()
        given = request.headers.get(request_ids.HEADER, "")
        request[REQUEST_ID] = request_ids.work_on(given if request_ids.sound(given) else request_ids.made())
        logs.bind(request_id=request[REQUEST_ID])
        code = ""
        try:
            response = await self._dispatch(request, handler)
        except Problem as problem:
            code, response = problem.code, _problem_response(request, problem)
        try:
            await self._send(request, response)
        finally:
            self._log(request, response, code, self._deps.clock.now_s() - started_s)
        return response

    async def _dispatch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            route = await self._authorise(request)
            return await self._call(request, handler, route)
        except Problem:
            raise
        except TrueupError as error:
            problem = problem_of(error)
            if problem.status == 500:
                _access.error("handler broke", exc=error)
            raise problem from error
        except web.HTTPException as error:
            raise _problem_of_http(request, error) from error
        except TimeoutError as error:
            limit_s = self._deps.limits.handler_timeout_s
            raise Problem("handler_timeout", f"no answer was ready within {limit_s:g} s") from error
        except ConnectionError:
            raise
        except Exception as error:
            _access.error("handler broke", exc=error)
            raise Problem("internal", "the controller met a bug of its own; its log has the details") from error

    async def _authorise(self, request: web.Request) -> Route:
        """The route that the caller may use. Sets the request's IDENTITY."""
        if request.version < HttpVersion10:
            raise Problem("malformed_request", "what was sent is not an HTTP/1.1 request")
        route = self._routes.get(request.match_info.route)
        if route is not None and route.open_to_all:
            self._count("unproven", _address(request))
            return route
        identity = await self._identify(request, route)
        if identity is None:
            self._count("unproven", _address(request))
            raise Problem("unauthorized", "a valid bearer token is needed", fix="`trueup token ROLE NAME` prints one")
        request[IDENTITY] = identity
        self._count(route.budget if route else "request", str(identity))
        if request.match_info.http_exception is not None:
            raise request.match_info.http_exception
        if route is None or not self._may(identity, route, request):
            raise Problem("forbidden", f"{identity} may not {request.method} {request.path}")
        return route

    def _may(self, identity: Identity, route: Route, request: web.Request) -> bool:
        thing = route.thing_for(identity, request.match_info, request.query)
        if thing.kind == "source" and (whose := self._deps.projects().get(thing.name)):
            thing = Thing(thing.kind, thing.name, *whose)
        return allow(identity, route.verb, thing)

    async def _identify(self, request: web.Request, route: Route | None) -> Identity | None:
        header = request.headers.get("Authorization", "")
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        if certificate:
            return await self._machine(request, certificate, header)
        if not header and route is not None and route.prove is not None:
            self._count(route.budget, _address(request))
            return await route.prove(request)
        if header.lower().startswith("bearer trueup_"):
            await self._standing.known(self._deps.limits.view_wait_s)
            return self._standing.bearer(header[7:].strip())
        if self._deps.issuers is not None and looks_like_jwt(header[7:].strip()):
            return await self._vouched_for(request, self._deps.issuers, header[7:].strip())
        identity = check_authorization(self._deps.token_key, header)
        if identity is None or identity.role not in MACHINE_KINDS:
            return identity
        self._former_tokens.admit(identity)
        return None if self._why_void(identity, None) else identity

    async def _vouched_for(self, request: web.Request, issuers: Issuers, token: str) -> Identity:
        """By an OIDC issuer. Somebody whom no rule names is as unproven as somebody whom nobody vouches for: at a
        public issuer he may be anybody."""
        try:
            found = await issuers.prove(token)
        except TrueupError as error:
            self._count("unproven", _address(request))
            _access.info("token refused", remote=request.remote or "", code=error.code, why=error.why)
            raise
        request[ENDS_AT_S] = found.ends_at_s
        return found.identity

    async def _machine(self, request: web.Request, certificate: Mapping[str, Any], header: str) -> Identity:
        """A connection with a certificate speaks for that machine and for nobody else."""
        if header:
            raise Problem("unauthorized", "there is a certificate and a token", fix="come with one of them")
        peer = self._standing.peer(certificate)
        await self._standing.known(self._deps.limits.view_wait_s)
        if why := self._standing.why_peer_void(peer):
            raise Problem("unauthorized", why)
        request[PEER] = peer
        return peer.identity

    def _why_void(self, identity: Identity, peer: Peer | None, ends_at_s: float | None = None) -> str:
        if ends_at_s is not None and datetime.fromisoformat(self._deps.clock.utc()).timestamp() > ends_at_s:
            return f"the token of {identity} has expired"
        if peer is not None:
            return self._standing.why_peer_void(peer)
        if identity.role == "token":
            return self._standing.token_void(identity.name)
        return self._standing.why_void(identity, None) if identity.role in MACHINE_KINDS else ""

    def _count(self, budget: Budget, caller: str) -> None:
        self._rates.take(budget, caller, self._deps.clock.now_s())

    async def _call(self, request: web.Request, handler: Handler, route: Route) -> web.StreamResponse:
        """A client that leaves ends a read at once; a write goes on to its end, since half of it may have happened."""
        sound_words(request)
        if route.query is not None:
            known_query(request, route.query)
        if route.streams:
            void = partial(self._why_void, request[IDENTITY], request.get(PEER), request.get(ENDS_AT_S))
            with self._standing.watching(request, request[IDENTITY], void):
                return await handler(request)
        async with asyncio.timeout(self._deps.limits.handler_timeout_s):
            if request.method == "GET":
                return await handler(request)
            return await asyncio.shield(asyncio.ensure_future(handler(request)))

    async def _send(self, request: web.Request, response: web.StreamResponse) -> None:
        """A client that does not take its answer is cut off; aiohttp alone would wait for ever."""
        try:
            async with asyncio.timeout(self._deps.limits.write_timeout_s):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass

    def _log(self, request: web.Request, response: web.StreamResponse, code: str, seconds: float) -> None:
        """Neither headers nor query nor body: they may hold what a log must not. What may have become events is told
        at the usual level, so that their request is found; reads, heartbeats and webhooks are too many for that."""
        route = self._routes.get(request.match_info.route)
        became = request.method != "GET" and route is not None and route.budget not in ("heartbeat", "webhook")
        write = _access.info if became or response.status >= 400 else _access.debug
        write(
            "request",
            method=request.method,
            path=request.path[:200],
            status=response.status,
            code=code,
            identity=str(request.get(IDENTITY, "-")),
            remote=request.remote or "",
            seconds=round(seconds, 4),
            bytes=response.body_length if response.prepared else 0,
        )


def _address(request: web.Request) -> str:
    return address_of(request.transport.get_extra_info("peername") if request.transport else None)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: also for streams, whose header is sent long before the handler returns."""
    response.headers.setdefault(request_ids.HEADER, request.get(REQUEST_ID, ""))
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.app[DRAINING].begun:
        response.headers["Connection"] = "close"
        response.force_close()  # what comes next is for another controller
    response.headers.setdefault("Cache-Control", "no-store")


def _problem_of_http(request: web.Request, error: web.HTTPException) -> Problem:
    """aiohttp's own refusals."""
    extra: dict[str, Any] = {}
    match error.status:
        case 404:
            return Problem("not_found", f"there is no {request.path}")
        case 405:
            allowed_methods = sorted(getattr(error, "allowed_methods", ()))
            extra["allowed_methods"] = allowed_methods
            return Problem("method_not_allowed", f"{request.path} knows {', '.join(allowed_methods)}", extra=extra)
        case 413:
            return Problem("body_too_large", "the body is too large")
        case _:
            return Problem("invalid_argument", error.reason, status=error.status)


def _problem_response(request: web.Request, problem: Problem) -> web.Response:
    headers = {"Content-Type": "application/problem+json"}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="trueup"'
    if problem.status == 405:
        headers["Allow"] = ", ".join(problem.extra.get("allowed_methods", ()))
    body = problem_bytes(problem, request[REQUEST_ID])
    return web.Response(status=problem.status, body=body, headers=headers)
