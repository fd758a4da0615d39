"""Follows one source: when its branch has moved, reads the commit, plans, guards, and submits all of it at once.

`reconciler.followed_sources` starts one `GitSync` per source. A pass takes no input: it fetches, reads from the views
what is applied, and works from there, so a restart or a lost wake-up changes nothing. What it decides goes to
`reconciler.handlers` through `submit` and `refuse`. The steps of a pass, each of which may end it:

1. fetch; an unreadable source is a `Transient`, and nothing changes (`branch`);
2. the head is what is applied, and for the same folder and project, or was refused already, or an operator has
   suspended the source: nothing to do. Any other head is told as seen, while the next steps go on already (`telling`);
3. the head does not descend from what is applied: refused, until an operator accepts the rewrite;
4. check the signatures of all commits since the applied one, then read and validate the whole tree, plan from the
   applied commit, check the guards: refused with all findings (`judging`, which reads through `reading`);
5. submit revision and commands as one batch; a claim that stands against it refuses the commit as well.

An error that is one app's own, in 4 or in 5, holds that app back and not the commit (`reconciler.core.isolation`),
unless the operator wants it otherwise (`Rules.on_error`). A refused commit changes nothing, and the next one is
compared with the last that was applied, so it never blocks. What is applied tells those that it takes the place of, the
commits since the applied one included: nobody looks at them by themselves.

Only the holder of the lease git/SOURCE runs these passes (`run`). Every other controller only fetches (`follow`), so
that it can deliver secrets out of its own clone.
"""

from reconciler.tasks.git_sync.sync import GitSync, Looked

__all__ = ["GitSync", "Looked"]
