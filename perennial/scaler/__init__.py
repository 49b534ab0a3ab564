"""The scaler: sizes each worker group by its own demand, and never loses a key."""
