"""One bad app does not hold back the others: which apps of a commit stay as they are live. Pure.

`reconciler.git.judge` calls `isolate` when a commit has errors, or when the live system stands against some of it. Who
is to blame for an error is said in `blame`; `isolation` makes sure that what is left is good as a whole. Where an error
cannot be said to be some app's own, the answer is the findings, and the commit is refused as a whole.
docs/decisions/0022-one-bad-app.md says why it is decided like this.
"""

from reconciler.core.isolation.isolation import HELD_APPS_MAX, Isolated, isolate
from reconciler.core.isolation.situation import Situation

__all__ = ["HELD_APPS_MAX", "Isolated", "Situation", "isolate"]
