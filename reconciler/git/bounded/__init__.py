"""Reading what others wrote, in a process that may die.

Git objects and manifests come from whoever may push. A parser that crashes, eats memory or never ends must cost one
source one look, not the controller. So `child` does all of it: libgit2, YAML, schemas, merging. It has no key, no
database, an environment of its own, and limits on memory, time and what it may write; `process` starts it, speaks
with it, and kills it when it is too slow; `source` is what the rest of the controller sees. Not a sandbox: it keeps
accidents in, not somebody who has found a way to run code in libgit2.

The two speak over the child's standard input and output, in the frames of `wire`.
"""
