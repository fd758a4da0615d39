"""The controller and the command line: from a Git commit to events, views and the plans of nodes and edges."""
