"""Templates of ``perennial.supervisord``."""
