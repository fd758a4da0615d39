"""Forges: GitHub, GitLab, Gitea and Forgejo behind `reconciler.ports.Forge`."""
