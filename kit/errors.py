"""The three ways in which something goes wrong, as types.

A `Refusal` says no to bad input and changes nothing; a retry of the same input gives the same answer.
A `Transient` may go through later, so the caller backs off and tries again.
A `Bug` is our own broken promise: the unit of work that met it stops, everything else goes on.
"""

from __future__ import annotations


class TrueupError(Exception):
    """What was attempted, on what, why it did not happen, and what to do.

    `attempted`: a phrase such as "read manifest apps/site.yaml:4:7".
    `why`: the reason, in the words of the one who has to act.
    `fix`: what to do; empty when there is nothing but waiting.
    `code`: a closed, stable word for machines, such as "manifest_invalid".
    `retry_after_s`: when the other side wants to be asked again; 0 when it did not say.
    """

    retryable = False

    def __init__(
        self, attempted: str, why: str, *, fix: str = "", code: str = "internal", retry_after_s: float = 0.0
    ) -> None:
        self.attempted = attempted
        self.why = why
        self.fix = fix
        self.code = code
        self.retry_after_s = retry_after_s
        super().__init__(attempted, why)

    def __str__(self) -> str:
        retry = "a retry may help" if self.retryable else "a retry does not help"
        parts = [f"{self.attempted}: {self.why} ({retry})"]
        if self.fix:
            parts.append(f"To mend it: {self.fix}")
        return ". ".join(parts)


class Refusal(TrueupError):
    """The input is not acceptable. Nothing was changed."""


class Transient(TrueupError):
    """It did not work this time; the same call may work later."""

    retryable = True


class Bug(TrueupError):
    """A promise of our own code does not hold."""


def said(error: BaseException) -> str:
    """An error in one line, whatever it is."""
    return str(error) if isinstance(error, TrueupError) else f"{type(error).__name__}: {error}"


def unknown(error: BaseException) -> BaseException | None:
    """The error itself when its traceback is worth keeping: one of ours says all in its message."""
    return None if isinstance(error, TrueupError) else error
