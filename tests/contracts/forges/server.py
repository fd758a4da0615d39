"""A forge on a local port: it holds what it is asked and what it answers against the published shapes beside this file.

One server plays GitHub, Gitea or GitLab. What a request must look like, and what an answer looks like, is in
`KIND.json`; whatever does not fit is in `violations`, and a test that ends with any fails. `next_answers` are given
instead of the proper ones, each once.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
from aiohttp import web

FOLDER = Path(__file__).parent
REPOSITORY = "acme/fleet"
TOKEN = "tok-canary-7f3a"
BOT = "trueup-bot"


@dataclass
class Pull:
    number: int
    head: str
    base: str = "main"
    fork: bool = False
    author: str = "ann"


@dataclass
class Note:
    note_id: int
    author: str
    body: str


@dataclass
class Status:
    status_id: int
    state: str
    context: str
    description: str
    url: str
    ref: str = ""


@dataclass
class ForgeServer:
    kind: str
    pulls: dict[int, Pull] = field(default_factory=dict)
    notes: dict[int, list[Note]] = field(default_factory=dict)
    statuses: dict[str, list[Status]] = field(default_factory=dict)
    """The newest first."""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    next_answers: list[web.Response | Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(
        default_factory=list
    )
    extra_headers: dict[str, str] = field(default_factory=dict)
    page_items_max: int = 100
    url: str = ""
    _ids: int = 100
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self.shapes = json.loads((FOLDER / f"{self.kind}.json").read_text())

    async def __aenter__(self) -> ForgeServer:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{rest:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        [(host, port)] = self._runner.addresses
        self.url = f"http://{host}:{port}{self.shapes['prefix']}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        assert not self.violations, "\n".join(self.violations)

    # --- what tests ask and do ---

    def open_pull(self, number: int, head: str, **more: Any) -> Pull:
        self.pulls[number] = Pull(number, head, **more)
        return self.pulls[number]

    def comment(self, number: int, author: str, body: str) -> Note:
        self._ids += 1
        note = Note(self._ids, author, body)
        self.notes.setdefault(number, []).append(note)
        return note

    def status_of(self, commit: str, context: str) -> Status | None:
        return next((each for each in self.statuses.get(commit, ()) if each.context == context), None)

    def sent(self) -> list[str]:
        """Requests that change something."""
        return [f"{method} {path}" for method, path, _ in self.requests if method != "GET"]

    # --- the server ---

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        path = request.raw_path.partition("?")[0].removeprefix(self.shapes["prefix"])
        self.requests.append((request.method, path, body))
        self.headers.append(dict(request.headers))
        if self.next_answers:
            answer = self.next_answers.pop(0)
            return answer if isinstance(answer, web.Response) else await answer(request)
        return self._answer(request, path, body)

    def _answer(self, request: web.Request, path: str, body: Any) -> web.Response:
        named = self._operation(request.method, path)
        if named is None:
            self.violations.append(f"there is no {request.method} {path}")
            return web.json_response({"message": "Not Found"}, status=404)
        operation, values = named
        shape = self.shapes["operations"][operation]
        self._check(self.shapes["headers"], dict(request.headers), f"{operation} headers")
        self._check(shape.get("query", {"maxProperties": 0}), dict(request.query), f"{operation} query")
        self._check(shape.get("body", {"type": "null"}), body, f"{operation} body")
        document, more = getattr(self, "_" + _HANDLERS[operation])(values, body, request.query)
        if isinstance(document, web.Response):
            return document
        self._check(shape["answer"], document, f"{operation} answer")
        return web.json_response(document, status=shape.get("status", 200), headers={**more, **self.extra_headers})

    def _operation(self, method: str, path: str) -> tuple[str, dict[str, str]] | None:
        for operation in self.shapes["operations"]:
            known_method, template = operation.split(" ")
            pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", template)
            if known_method == method and (found := re.fullmatch(pattern, path)):
                values = {name: unquote(value) for name, value in found.groupdict().items()}
                repository = values.get("project") or "/".join([values.get("owner", ""), values.get("repo", "")])
                if repository not in (REPOSITORY, "/"):
                    return None
                return operation, values
        return None

    def _check(self, schema: Any, document: Any, where: str) -> None:
        validator = jsonschema.Draft202012Validator({**schema, "$defs": self.shapes.get("$defs", {})})
        self.violations += [f"{where}: {error.message[:300]}" for error in validator.iter_errors(document)]

    def _page(self, items: list[Any], query: Any) -> tuple[list[Any], dict[str, str]]:
        size = min(int(query.get("per_page") or query.get("limit") or 30), self.page_items_max)
        page = int(query.get("page", 1))
        start, end = (page - 1) * size, page * size
        headers = {"X-Total-Count": str(len(items))} if self.kind == "gitea" else {}
        if self.kind == "github" and end < len(items):
            headers["Link"] = f'<{self.url}/elsewhere?page={page + 1}>; rel="next", <{self.url}/x>; rel="last"'
        return items[start:end], headers

    def _who(self, values: Any, body: Any, query: Any) -> Any:
        return {"id": 1, "login": BOT, "username": BOT}, {}

    def _pulls(self, values: Any, body: Any, query: Any) -> Any:
        wanted = query.get("base") or query.get("target_branch")
        found = [each for _, each in sorted(self.pulls.items()) if not wanted or each.base == wanted]
        return self._page([self._pull_document(each) for each in found], query)

    def _pull_document(self, pull: Pull) -> Any:
        if self.kind == "gitlab":
            return {
                "iid": pull.number,
                "state": "opened",
                "sha": pull.head,
                "source_project_id": 8 if pull.fork else 7,
                "target_project_id": 7,
                "target_branch": pull.base,
                "author": {"username": pull.author},
                "web_url": f"{self.url}/mr/{pull.number}",
            }
        base = {"ref": pull.base, "sha": "b" * 40, "repo_id": 7, "repo": {"full_name": REPOSITORY}}
        repository = {"full_name": "eve/fleet"} if pull.fork else {"full_name": REPOSITORY}
        return {
            "number": pull.number,
            "state": "open",
            "html_url": f"{self.url}/pull/{pull.number}",
            "user": {"login": pull.author},
            "head": {"ref": "topic", "sha": pull.head, "repo_id": 8, "repo": repository},
            "base": base,
        }

    def _comments(self, values: Any, body: Any, query: Any) -> Any:
        documents = [self._note_document(each) for each in self.notes.get(int(values["number"]), [])]
        return (documents, {}) if self.kind == "gitea" else self._page(documents, query)

    def _note_document(self, note: Note) -> Any:
        if self.kind == "gitlab":
            return {"id": note.note_id, "author": {"username": note.author}, "body": note.body, "system": False}
        url = f"{self.url}/comment/{note.note_id}"
        return {"id": note.note_id, "user": {"login": note.author}, "body": note.body, "html_url": url}

    def _post_comment(self, values: Any, body: Any, query: Any) -> Any:
        return self._note_document(self.comment(int(values["number"]), BOT, body["body"])), {}

    def _edit_comment(self, values: Any, body: Any, query: Any) -> Any:
        found = [note for notes in self.notes.values() for note in notes if note.note_id == int(values["comment"])]
        if not found or found[0].author != BOT:
            return web.json_response({"message": "Forbidden"}, status=403), {}
        found[0].body = body["body"]
        return self._note_document(found[0]), {}

    def _list_statuses(self, values: Any, body: Any, query: Any) -> Any:
        found = [each for each in self.statuses.get(values["sha"], []) if query.get("name") in (None, each.context)]
        return self._page([self._status_document(each, values["sha"]) for each in found], query)

    def _status_document(self, status: Status, sha: str) -> Any:
        document = {"id": status.status_id, "description": status.description, "target_url": status.url}
        if self.kind == "gitlab":
            return {**document, "name": status.context, "status": status.state, "sha": sha}
        return {**document, "context": status.context, "status" if self.kind == "gitea" else "state": status.state}

    def _post_status(self, values: Any, body: Any, query: Any) -> Any:
        context = body.get("context") or body.get("name")
        now = self.status_of(values["sha"], context)
        same = now is not None and now.state == body["state"]
        if self.kind == "gitlab" and same and body["state"] in ("pending", "running"):
            verb = {"pending": "enqueue", "running": "run"}[body["state"]]
            why = f"Cannot transition status via :{verb} from :{body['state']}"
            return web.json_response({"message": why}, status=400), {}
        self._ids += 1
        description, url = body.get("description", ""), body.get("target_url", "")
        status = Status(self._ids, body["state"], context, description, url, body.get("ref", ""))
        self.statuses.setdefault(values["sha"], []).insert(0, status)
        return self._status_document(status, values["sha"]), {}


_HANDLERS = {
    "GET /user": "who",
    "GET /repos/{owner}/{repo}/pulls": "pulls",
    "GET /projects/{project}/merge_requests": "pulls",
    "GET /repos/{owner}/{repo}/issues/{number}/comments": "comments",
    "GET /projects/{project}/merge_requests/{number}/notes": "comments",
    "POST /repos/{owner}/{repo}/issues/{number}/comments": "post_comment",
    "POST /projects/{project}/merge_requests/{number}/notes": "post_comment",
    "PATCH /repos/{owner}/{repo}/issues/comments/{comment}": "edit_comment",
    "PUT /projects/{project}/merge_requests/{number}/notes/{comment}": "edit_comment",
    "GET /repos/{owner}/{repo}/commits/{sha}/statuses": "list_statuses",
    "GET /projects/{project}/repository/commits/{sha}/statuses": "list_statuses",
    "POST /repos/{owner}/{repo}/statuses/{sha}": "post_status",
    "POST /projects/{project}/statuses/{sha}": "post_status",
}


async def hang(request: web.Request) -> web.StreamResponse:
    """Takes the request and never answers."""
    await asyncio.sleep(3600)
    raise AssertionError("nobody waits that long")
