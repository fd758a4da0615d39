"""What the agent decides, without I/O, clock or chance: converge, phases, restarts, health."""
