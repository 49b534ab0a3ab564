"""A supervisord and its programs on one machine."""
