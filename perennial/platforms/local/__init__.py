"""The local machine: a cluster's services under a supervisord of the user's own."""
