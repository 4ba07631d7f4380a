"""Jobs that compose rooms which must not know each other."""
