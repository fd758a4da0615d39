"""The host agent: one a node; makes the node's microVMs be what its plan says, with or without a controller."""
