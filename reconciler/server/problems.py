"""Errors as application/problem+json (RFC 9457). Pure.

Handlers raise `Problem` or let a `kit.errors` error through; `reconciler.server.guard` turns both into the answer. The
`code` is the stable word for machines; the command line turns the status into its exit code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from kit.errors import Refusal, Transient, TrueupError
from kit.redaction import redacted

STATUS_OF_CODE: Mapping[str, int] = {
    "invalid_argument": 400,
    "document_invalid": 400,
    "malformed_request": 400,
    "enrolment_invalid": 400,
    "csr_invalid": 400,
    "scope_invalid": 400,
    "form_unknown": 400,
    "unauthorized": 401,
    "token_expired": 401,
    "forbidden": 403,
    "node_mismatch": 403,
    "join_refused": 403,
    "csr_mismatch": 403,
    "certificate_foreign": 403,
    "not_found": 404,
    "secret_not_found": 404,
    "secrets_missing": 404,
    "node_unknown": 404,
    "identity_unknown": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "conflict": 409,
    "version_conflict": 409,
    "command_id_conflict": 409,
    "idempotency_key_reuse": 409,
    "cursor_invalid": 410,
    "body_too_large": 413,
    "expectation_failed": 417,
    "rate_limited": 429,
    "too_many_streams": 429,
    "header_too_large": 431,
    "plan_busy": 503,
    "plan_timeout": 503,
    "unavailable": 503,
    "projection_timeout": 504,
    "handler_timeout": 504,
}
RETRY_AFTER_S: Mapping[int, int] = {408: 1, 429: 5, 503: 2, 504: 1}


class Problem(Exception):
    """An answer that is not a success. `extra` are further members, such as the present cursor. `retry_after_s`: when
    it is known better than by the status."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int = 0,
        fix: str = "",
        extra: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.status = status or STATUS_OF_CODE.get(code, 500)
        self.detail = detail
        self.fix = fix
        self.extra = dict(extra or {})
        self.retry_after_s = RETRY_AFTER_S.get(self.status) if retry_after_s is None else retry_after_s


def problem_of(error: TrueupError) -> Problem:
    """A refusal is the caller's, a transient asks for a retry, everything else is our fault and says little."""
    detail = f"{error.attempted}: {error.why}"
    if isinstance(error, Refusal):
        status = STATUS_OF_CODE.get(error.code, 409)
    elif isinstance(error, Transient):
        status = STATUS_OF_CODE.get(error.code, 503)
        status = status if status in RETRY_AFTER_S else 503
    else:
        return Problem("internal", "the controller met a bug of its own; its log has the details", status=500)
    return Problem(error.code, detail, status=status, fix=error.fix)


def problem_document(problem: Problem, request_id: str) -> dict[str, Any]:
    """Every member is always there, so that a client needs no special case. A detail may quote what an error of
    somebody else's quoted."""
    return {
        "type": f"urn:trueup:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": redacted(problem.detail),
        "code": problem.code,
        "fix": problem.fix,
        "retryable": problem.retry_after_s is not None,
        "retry_after_seconds": problem.retry_after_s,
        "request_id": request_id,
        **problem.extra,
    }


def problem_bytes(problem: Problem, request_id: str) -> bytes:
    return json.dumps(problem_document(problem, request_id)).encode() + b"\n"
