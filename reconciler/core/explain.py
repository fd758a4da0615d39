"""Why is this as it is? Rows and events in, an explanation out. Pure.

`reconciler.server.why` gathers the rows of one snapshot and the events of the subject and calls `explain`;
`reconciler.cli.why` prints the answer. It is read at night by somebody who did not write the line, so it says why
what is there is not what is wanted and what to do; what is wanted and who wrote that where; what is there; and how it
came to that. `explain_names` finds the subject, `explain_subjects` compares, `explain_history` tells the events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.core import explain_history, explain_subjects
from reconciler.core.explanation import Evidence, Explanation, Subject


def explain(subject: Subject, evidence: Evidence, see_also: Sequence[Subject] = ()) -> Explanation:
    """The whole answer about one subject."""
    told = explain_subjects.tell(subject, evidence)
    history, omitted = explain_history.steps(evidence.events)
    return replace(
        told,
        history=history,
        history_omitted=omitted,
        see_also=tuple(see_also),
        log_id=evidence.log_id,
        event_id=evidence.event_id,
    )
