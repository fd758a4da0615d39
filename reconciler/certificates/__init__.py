"""The platform's own certificate authority. Opened by `reconciler.bootstrap`, asked by `reconciler.server.machines`."""
