"""Templates of ``perennial.templates``."""
