"""Where a cluster can stand: a folder a platform; `perennial.registry` names their parts."""
