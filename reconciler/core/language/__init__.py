"""How manifests build on one another: folder defaults, variables, overlays. Pure, and without any code in manifests.

`reconciler.git.tree_files` calls it for a commit and `reconciler.cli.source_tree` for a folder. In order:

1. `documents`: a file's bytes to documents of a known kind;
2. `outline`: what other files need to know of a file;
3. `context`: who inherits from whom in one tree, and what a file's resources depend on;
4. `resolve`: a file with all that it inherits to declared resources.

A value keeps the place where it was written through all of it, so that a finding names the line to change. The rules
for users are in docs/MANIFESTS.md.
"""
