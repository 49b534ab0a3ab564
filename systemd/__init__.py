"""Templates of ``perennial.systemd``."""
