"""The example on real input: a standing cluster, twice, another process, no cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jupyterlab import process
from tests.ports import NO_PAGES, free_port

pytestmark = pytest.mark.lab

EXAMPLE = Path(__file__).parent.parent / "examples" / "flights.py"


def python(*arguments: str, home: Path, config: Path | None = None) -> str:
    """What a new process prints whose user is connected to a cluster, or to none."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DASK")}
    clean["HOME"] = str(home)
    if config is not None:
        clean["DASK_CONFIG"] = str(config)
    done = subprocess.run(
        [sys.executable, *arguments],
        env=clean,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Path]:
    """Dask configuration that leads to a scheduler with two workers."""
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "dask"]
    port = address.rpartition(":")[2]
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", port, *NO_PAGES]
    worker = ["worker", address, "--nthreads", "1", "--memory-limit", "1 GiB", "--no-dashboard"]
    room = ["--local-directory", str(tmp_path)]
    config = tmp_path / "dask.yaml"
    config.write_text(json.dumps({"scheduler-address": address}))
    with (
        process([*dask, *scheduler], tmp_path / "scheduler.log"),
        process([*dask, *worker, *room], tmp_path / "worker-0.log"),
        process([*dask, *worker, *room], tmp_path / "worker-1.log"),
    ):
        yield config


@pytest.mark.smoke
def test_on_a_standing_cluster(cluster: Path, tmp_path: Path) -> None:
    first = python(str(EXAMPLE), home=tmp_path, config=cluster)
    assert "336,776 flights" in first
    assert "agree with pandas and NumPy" in first
    # January at Newark, Kennedy and LaGuardia.
    assert "1       14.9   8.6   5.6" in first
    assert "An earlier run" not in first
    assert "no standing cluster" not in first

    ask = (
        "from distributed import Client\n"
        "kept = Client().get_dataset('flights_delay_by_origin_month').compute()\n"
        "print(len(kept), round(kept['EWR', 1], 3))"
    )
    assert python("-c", ask, home=tmp_path, config=cluster) == "36 14.906\n"

    second = python(str(EXAMPLE), home=tmp_path, config=cluster)
    assert "An earlier run left flights_delay_by_origin_month here" in second
    assert second.partition("\n\n")[2] == first.partition("\n\n")[2]


def test_without_a_standing_cluster(tmp_path: Path) -> None:
    printed = python(str(EXAMPLE), home=tmp_path)
    assert "agree with pandas and NumPy" in printed
    assert "no standing cluster is connected" in printed
