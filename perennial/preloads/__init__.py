"""Modules that Dask's own processes load with ``--preload`` and ``--preload-nanny``."""
