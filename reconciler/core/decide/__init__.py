"""A command, and what is known, to an `Append` or a refusal. Pure: ids and times come as arguments.

Called by `reconciler.handlers`. One module per family of aggregates; they do not know each other:

git        a revision: environments, apps with their releases and deployments, routes, secrets, volumes
sources    sources
nodes      enrolment, active and offline; what an operator lets a node do
suspensions, holds   what an operator keeps from following Git
instances  what agents report of instances; an operator stops one
volumes    what agents report of volumes
edges      what edges report of routes

`None` means that there is nothing to say: what the command asks for is so already.
"""
