"""What runs on an instance beside Dask: standard library alone, and any Python since 3.9.

It runs as root in the system's own Python, before there is an environment.
"""
