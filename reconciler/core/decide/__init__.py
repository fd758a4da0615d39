"""A command, and what is known, to an `Append` or a refusal. Pure: ids and times come as arguments.

Called by `reconciler.handlers`. One module per family of aggregates; they do not know each other:

git        a revision: environments, apps with their releases and deployments, routes, secrets, volumes
sources    sources
nodes      enrolment, active and offline
instances  what agents report of instances
volumes    what agents report of volumes
edges      what edges report of routes

`None` means that there is nothing to say: what the command asks for is so already.
"""
