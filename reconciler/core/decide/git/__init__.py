"""What a commit asks for, as one batch of appends. Called by `reconciler.handlers`."""

from reconciler.core.decide.git.revision import (
    claim_refusal,
    decide_refused,
    decide_revision,
)
from reconciler.core.decide.git.state import GitState
from reconciler.core.decide.git.steps import decide_seen

__all__ = ["GitState", "claim_refusal", "decide_refused", "decide_revision", "decide_seen"]
