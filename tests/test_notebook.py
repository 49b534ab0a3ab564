"""`perennial.Cluster` on a real scheduler with a real worker; a stand-in reports as a scaler."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import perennial
from perennial import authority, connect, paths
from perennial.connect import Connection, Tls
from perennial.connect.configuration import dask_config
from perennial.errors import PerennialError
from perennial.scaler import scaler_client
from perennial.scheduler_connection import security
from tests import dask_processes
from tests.homes import wait_until
from tests.ports import free_ports
from tests.scaler.feeder import Scaler, scheduler

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A standing cluster of this user, with TLS."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("XDG_STATE_HOME", raising=False)
        cluster = paths.cluster_state("lab")
        authority.ensure(cluster.tls, "lab", ())
        cluster.spec.write_text("name: lab\n")
        size = ("--nthreads", "1", "--memory-limit", "1GiB", "--no-dashboard", "--name", "cpu-0")
        with scheduler(home, cluster.tls) as address:
            flags = dask_processes.tls_flags(cluster.tls, "worker")
            with dask_processes.dask(home, "worker", address, *size, *flags):
                connection = Connection(
                    "lab", address, "http://there/status", Tls.in_folder(cluster.tls)
                )
                connect.save(cluster, connection)
                yield connection


@pytest.fixture
def scaler(lab: Connection) -> Iterator[Scaler]:
    with Scaler(lab.scheduler_address, security(lab.tls)) as running:
        yield running


def test_clients_come_and_go_and_the_cluster_stays(lab: Connection) -> None:
    from distributed import Client

    with perennial.Cluster() as cluster:
        cluster.wait_for_workers(1, timeout=60)
        assert cluster.name == "lab"
        assert cluster.scheduler_address == lab.scheduler_address
        assert cluster.dashboard_link == "http://there/status"
        with Client(cluster) as client:
            assert client.submit(sum, [1, 2]).result(60) == 3
            assert cluster.get_client() is client
        with cluster.get_client() as client:
            identity = client.scheduler_info()["id"]
            assert [each["name"] for each in cluster.scheduler_info["workers"].values()] == [
                "cpu-0"
            ]
            client.shutdown()  # closes the cluster object, and that is only a connection
    with perennial.Cluster("lab") as again, again.get_client() as client:
        assert client.scheduler_info()["id"] == identity
        assert client.submit(sum, [1, 2]).result(60) == 3


def test_what_is_asked_reaches_the_scaler(lab: Connection, scaler: Scaler) -> None:
    with perennial.Cluster("lab", quiet=True) as cluster:
        cluster.scale(cpu=4)
        cluster.scale({"gpu": 1}, last="2h")
        bounds = cluster.adapt(minimum=1, maximum=6, group="cpu")
        assert (bounds.minimum, bounds.maximum) == (1, 6)
        cluster.adapt(group="gpu")
        wait_until(lambda: len(scaler.taken) == 6)
        assert scaler.taken == [
            {"kind": "pin", "group": "cpu", "size": 4, "seconds": None},
            {"kind": "pin", "group": "gpu", "size": 1, "seconds": 7200.0},
            {"kind": "unpin", "group": "cpu"},
            {"kind": "bounds", "group": "cpu", "min": 1, "max": 6},
            {"kind": "unpin", "group": "gpu"},
            {"kind": "unbound", "group": "gpu"},
        ]
        with pytest.raises(PerennialError, match=r"found 2 groups \(cpu, gpu\); name the one"):
            cluster.scale(3)
        with pytest.raises(PerennialError, match=r"does not size this group; there is cpu, gpu"):
            cluster.scale(tpu=3)
        with pytest.raises(PerennialError, match="min 3 above max 1"):
            cluster.adapt(3, 1, group="cpu")


def test_the_only_group_needs_no_name(lab: Connection, scaler: Scaler) -> None:
    del scaler.groups["gpu"]
    with perennial.Cluster() as cluster:
        wait_until(
            lambda: "gpu" not in cluster.sync(scaler_client.report, cluster.scheduler_comm).groups
        )
        cluster.scale(3)
        wait_until(lambda: scaler.taken)
    assert scaler.taken == [{"kind": "pin", "group": "cpu", "size": 3, "seconds": None}]


def test_a_group_without_scale_is_not_the_scalers(lab: Connection, scaler: Scaler) -> None:
    scaler.fixed = ["gpu"]
    with perennial.Cluster() as cluster:
        wait_until(lambda: cluster.sync(scaler_client.report, cluster.scheduler_comm).fixed)
        cluster.scale(3)  # there is only one that it can mean
        wait_until(lambda: scaler.taken)
        with pytest.raises(PerennialError, match="gpu: has no `scale` in the cluster file of lab"):
            cluster.scale(gpu=3)
        with pytest.raises(PerennialError, match="gpu: has no `scale` in the cluster file of lab"):
            cluster.adapt(0, 3, group="gpu")
        with pytest.raises(PerennialError, match=r"does not size this group; there is cpu$"):
            cluster.scale(tpu=3)
    assert scaler.taken == [{"kind": "pin", "group": "cpu", "size": 3, "seconds": None}]


def test_what_a_notebook_shows(lab: Connection, scaler: Scaler) -> None:
    scaler.infeasible = ["60 tasks need <FPGA>: 1; no group has it"]
    with perennial.Cluster() as cluster:
        wait_until(lambda: cluster.sync(scaler_client.report, cluster.scheduler_comm).infeasible)
        cluster.sync(cluster._look)
        page = cluster._repr_html_()
        assert "<td>cpu</td><td>2</td><td>2</td><td>steady</td>" in page
        assert "need &lt;FPGA&gt;: 1" in page
        assert "http://there/status" in page
        assert cluster.explain("cpu").startswith(
            "60 tasks need <FPGA>: 1; no group has it\n\ncpu, "
        )
        assert repr(cluster).startswith("Cluster(lab, 'tls://")
        logs = cluster.logs()
        assert "Scaler" in logs
        assert "Scheduler at:" in logs["Scheduler"]
        assert len(logs) == 3


def test_asynchronous(lab: Connection, scaler: Scaler) -> None:
    from distributed import Client

    async def use() -> Any:
        async with perennial.Cluster("lab", asynchronous=True) as cluster:
            await cluster.scale(cpu=5)
            bounds = await cluster.adapt(0, 9, group="cpu")
            async with Client(cluster, asynchronous=True) as client:
                result = await client.submit(sum, [1, 2])
            logs = await cluster.logs(workers=False)
            return bounds.maximum, result, sorted(logs)

    assert asyncio.run(use()) == (9, 3, ["Scaler", "Scheduler"])
    wait_until(lambda: len(scaler.taken) == 3)


def test_the_cluster_of_a_plain_client(lab: Connection, tmp_path: Path) -> None:
    """On a machine that knows the cluster by Dask's configuration alone, as Jupyter's does."""
    config = tmp_path / "dask.yaml"
    config.write_text(json.dumps(dask_config(lab)))
    code = (
        "import perennial\n"
        "with perennial.Cluster() as cluster:\n"
        "    print(cluster.name, cluster.dashboard_link, len(cluster.scheduler_info['workers']))\n"
    )
    more = {"DASK_CONFIG": str(config)}
    assert dask_processes.python(code, tmp_path, more) == "lab http://there/status 1"


def test_without_a_scaler_it_says_so(tmp_path: Path) -> None:
    with dask_processes.cluster(tmp_path, None) as address:
        code = (
            "import dask, perennial\n"
            f"dask.config.set({{'scheduler-address': {address!r}}})\n"
            "cluster = perennial.Cluster()\n"
            "print(cluster._scaling_status())\n"
            "cluster.scale(3)\n"
        )
        said = dask_processes.python(code, tmp_path)
    assert "no scaler answers; `perennial status` says whether there is one" in said


def test_it_outlives_its_scheduler(tmp_path: Path) -> None:
    """Connected to once it is there, and again when it comes back."""
    [port] = free_ports(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perennial.notebook.INTERVAL", 0.5)
        patch.setenv("HOME", str(tmp_path))
        patch.delenv("XDG_STATE_HOME", raising=False)
        state = paths.cluster_state("lone")
        connect.save(state, Connection("lone", f"tcp://127.0.0.1:{port}"))
        state.spec.write_text("name: lone\n")
        with perennial.Cluster("lone", wait=False) as cluster:
            assert cluster.scheduler_info["workers"] == {}
            seen = []
            for _ in range(2):
                with dask_processes.scheduler(tmp_path, None, "--port", str(port)):
                    wait_until(lambda: cluster.scheduler_info.get("id") not in (None, *seen))
                    seen.append(cluster.scheduler_info["id"])
                (tmp_path / "scheduler.json").unlink(missing_ok=True)
                wait_until(lambda: "id" not in cluster.scheduler_info)
        with pytest.raises(PerennialError, match="has not answered within 1 s"):
            perennial.Cluster("lone", timeout=1)
