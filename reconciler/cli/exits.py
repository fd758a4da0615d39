"""Exit codes, and how an error becomes one. Used by `reconciler.cli.main`."""

from __future__ import annotations

from typing import Any

from kit.errors import Bug, TrueupError

OK, GENERIC, USAGE, AUTH, MISSING, CONFLICT, TRANSIENT, INTERNAL = range(8)

MEANING = {
    OK: "done",
    GENERIC: "refused or failed; the message says why",
    USAGE: "wrong usage or settings, or a name that may mean several things",
    AUTH: "the token is missing, wrong, or not allowed to do this",
    MISSING: "there is no such thing",
    CONFLICT: "somebody else changed or holds it",
    TRANSIENT: "not now; the same command may work later",
    INTERNAL: "a bug of trueup",
}

_EXIT_OF_CODE = {
    **dict.fromkeys(("usage", "settings_invalid", "invalid_argument", "ambiguous", "document_invalid"), USAGE),
    "machine_tokens_off": USAGE,
    **dict.fromkeys(("unauthorized", "token_expired", "forbidden", "key_exposed", "node_mismatch"), AUTH),
    **dict.fromkeys(("not_found", "node_unknown", "secret_not_found"), MISSING),
    **dict.fromkeys(
        ("conflict", "version_conflict", "command_id_conflict", "cursor_invalid", "cursor_file_damaged"), CONFLICT
    ),
    "idempotency_key_reuse": CONFLICT,
    "internal": INTERNAL,
}


def exit_code(error: TrueupError) -> int:
    if isinstance(error, Bug):
        return INTERNAL
    return _EXIT_OF_CODE.get(error.code, TRANSIENT if error.retryable else GENERIC)


def problem_document(error: TrueupError) -> dict[str, Any]:
    """The same members as the controller's problem documents, as far as the command line knows them."""
    return {
        "type": f"urn:trueup:problem:{error.code}",
        "title": error.attempted,
        "detail": error.why,
        "code": error.code,
        "fix": error.fix,
        "retryable": error.retryable,
        "exit_code": exit_code(error),
    }


def epilog() -> str:
    """For `trueup --help`."""
    lines = "\n".join(f"  {code}  {meaning}" for code, meaning in MEANING.items())
    found = "The controller is found through --controller, TRUEUP_CONTROLLER, `trueup login`, or the state folder."
    return f"exit codes:\n{lines}\n\n{found}\n"
