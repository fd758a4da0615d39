"""What a commit would do to the fleet. Pure: rows of the views and a judged commit in, one document out.

Called by `reconciler.planning` (live: GET /v1/plan, pull requests) and `reconciler.cli.plan` (offline). Nothing here
decides anything: the commit goes through the deciders of `core.decide.git`, its events through the folds of the views,
and then the scheduler itself runs, pass after pass, against agents that do as they are told. What it says is therefore
what happens, as long as agents behave like that model; docs/PLANS.md says what the model leaves out.

document       the plan as data (schemas/wire/plan.json)
world          the part of the fleet that may move, the rest as weight on the nodes
simulation     the commit decided and folded, then scheduler and agents in turns
roll_outs      who starts and stops, in which order, what serves meanwhile
capacity       memory and instances of nodes and environments, before and after
changes        resources field by field, and the confirmations that are missing
routes         which hostnames are affected
preview        the whole
imagined       a fleet for plans without a controller
wording        how a reader is told; `markdown` for pull requests, `reconciler.cli.plan` for terminals
"""

from reconciler.core.preview.document import PlanDocument, RenderedPlan
from reconciler.core.preview.preview import Asked, preview

__all__ = ["Asked", "PlanDocument", "RenderedPlan", "preview"]
