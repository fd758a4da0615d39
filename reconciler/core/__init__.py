"""Pure decisions. No I/O, no clock, no chance: `now`, `ids` and `rng` are arguments."""
