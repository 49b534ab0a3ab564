"""Side-by-side ratios: ours and the usual way, measured in one run, turn by turn."""
