"""Instances of EC2: groups of Auto Scaling, with the same systemd units as on hosts."""
