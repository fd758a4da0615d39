"""What runs where. Pure: a snapshot of the views and the time in, named lists of actions out.

Called by `reconciler.tasks.scheduler`; the actions become events in `record` and are appended by `reconciler.handlers`.

limits     every bound, with its reason
snapshot   rows of the views as one immutable picture
times      since when each thing is as it is (views hold no monotonic time)
target     what an instance of a process should be now, and its spec_hash
groups     the instances of one (app, process), in named buckets
verdict    is a current instance still starting, or broken?
rollout    what to drain, stop and allocate in one group
placement  on which node, at which address
deployments, schedule   the whole, and how each deployment stands
record     actions as appends for the log
"""
