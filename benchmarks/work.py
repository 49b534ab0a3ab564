"""The same work on a standing cluster and on a LocalCluster of the same shape."""

from __future__ import annotations

import sys
import time

TINY = 20_000
#: Bytes that are shuffled: rows of a 64-bit key and a 64-bit value.
SHUFFLE = 500_000_000


def increment(number: int) -> int:
    """Add one: a task that costs the scheduler more than the worker."""
    return number + 1


def tiny(client: object) -> float:
    """Seconds for many tiny tasks and one sum over their results."""
    from distributed import Client, wait

    assert isinstance(client, Client)
    start = time.perf_counter()
    futures = client.map(increment, range(TINY), pure=False)
    wait(futures)
    seconds = time.perf_counter() - start
    del futures
    return seconds


def shuffle(client: object) -> float:
    """Seconds to shuffle a data frame that is made on the workers."""
    import dask.dataframe as dd
    import numpy as np
    import pandas as pd

    partitions, rows = 20, SHUFFLE // 20 // 16

    def part(seed: int) -> pd.DataFrame:
        random = np.random.default_rng(seed)
        return pd.DataFrame(
            {"key": random.integers(0, 1 << 40, rows), "value": random.random(rows)}
        )

    meta = pd.DataFrame({"key": np.array([], "int64"), "value": np.array([], "float64")})
    frame = dd.from_map(part, range(partitions), meta=meta)
    start = time.perf_counter()
    lengths = frame.shuffle("key").map_partitions(len).compute()
    seconds = time.perf_counter() - start
    assert sum(lengths) == partitions * rows
    return seconds


def main(where: str, what: str) -> None:
    """Print the seconds of one kind of work; run in a process of its own.

    Parameters
    ----------
    where : str
        ``standing`` for a plain ``Client()``, ``local`` for a LocalCluster.
    what : str
        ``tiny``, ``shuffle`` or ``first`` (a new process to its first result).
    """
    start = time.perf_counter()
    import dask
    from distributed import Client, LocalCluster

    if where == "local":
        dask.config.set({"distributed.comm.require-encryption": False})
        cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="2GiB", dashboard_address="127.0.0.1:0"
        )
        client = Client(cluster)
    else:
        client = Client()
    if what == "first":
        assert client.submit(sum, [1, 2]).result() == 3
        print(time.perf_counter() - start, flush=True)
        return
    client.submit(sum, [1, 2]).result()
    print({"tiny": tiny, "shuffle": shuffle}[what](client), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
