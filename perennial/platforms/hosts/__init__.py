"""A standing cluster on machines that are reached over SSH."""
