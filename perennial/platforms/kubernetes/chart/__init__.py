"""The chart `dask` for Helm: what its values mean here, and releases of it that run."""
