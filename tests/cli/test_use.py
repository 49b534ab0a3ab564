"""`connect`, `disconnect` and `env` as a user types them, against a real TLS cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial import authority, connect, paths
from perennial.cli.use import OWN
from perennial.connect import Connection, Tls, trial
from tests import dask_processes
from tests.dask_processes import python
from tests.ports import free_port

ASK = (
    "from distributed import Client\n"
    "with Client() as client:\n"
    "    print(client.scheduler.address, client.submit(sum, [1, 2]).result(30))\n"
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of the user whose machine the cluster runs on."""
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(scope="module")
def address(machine: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(machine))
        patch.delenv("XDG_STATE_HOME", raising=False)
        cluster = paths.cluster_state("lab")
        authority.ensure(cluster.tls, "lab", ())
        cluster.spec.write_text("name: lab\n")
    with dask_processes.cluster(machine, cluster.tls) as address:
        connect.save(cluster, Connection("lab", address, tls=Tls.in_folder(cluster.tls)))
        yield address


def perennial(home: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    """Exit code, what it prints and what it warns of."""
    ended = subprocess.run(
        [Path(sys.executable).with_name("perennial"), *arguments],
        env=dask_processes.environment(home, more),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=dask_processes.PATIENCE,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_connect_and_disconnect(machine: Path, address: str) -> None:
    says = f"Client() in a new Python process reaches lab at {address}\n{OWN}\n"
    assert perennial(machine, "connect") == (0, says, "")
    assert perennial(machine, "connect", "lab") == (0, says, "")
    assert python(ASK, machine) == f"{address} 3"
    code, out, err = perennial(machine, "disconnect", DASK_SCHEDULER_ADDRESS="tcp://x:1")
    assert (code, out) == (0, "Client() in a new Python process no longer reaches lab\n")
    assert err.startswith("warning: this shell still reaches tcp://x:1; `unset DASK_SCHED")
    assert python(ASK, machine).startswith("tcp://127.0.0.1:")
    says = "not connected: Client() starts a LocalCluster\n"
    assert perennial(machine, "disconnect") == (0, says, "")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {"DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:9"},
            "reaches tcp://127.0.0.1:9 instead: DASK_SCHEDULER_ADDRESS in this shell wins; "
            "`unset DASK_SCHEDULER_ADDRESS`",
        ),
        (
            {"DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": "/none"},
            "does not reach it: distributed.comm.tls.client.key is /none: "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY in this shell wins; "
            "`unset DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY`",
        ),
    ],
)
def test_what_connect_claims_is_tried(
    machine: Path, address: str, variables: dict[str, str], says: str
) -> None:
    code, out, _ = perennial(machine, "connect", **variables)
    assert (code, out.splitlines()[0]) == (0, f"Client() in a new Python process {says}")
    perennial(machine, "disconnect")


def test_a_file_that_wins_is_named(machine: Path, address: str, tmp_path: Path) -> None:
    """What stands in a folder's file beside the one that `connect` writes is refused there;
    what the interpreter's own folder or a file of DASK_CONFIG says is found by trying."""
    file = tmp_path / "site.yaml"
    file.write_text("scheduler-address: tcp://site.example.org:8786\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(machine))
        patch.delenv("XDG_STATE_HOME", raising=False)
        patch.setenv("DASK_CONFIG", str(file))
        found = trial.problem(connect.find("lab"))
    says = f"reaches tcp://site.example.org:8786 instead: {file} wins; remove scheduler-address"
    assert found == f"{says} there"


def test_a_scheduler_that_is_not_there(machine: Path, address: str) -> None:
    link = Connection("lab", f"tcp://127.0.0.1:{free_port()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_SCHEDULER_ADDRESS", link.scheduler_address)
        found = trial.problem(link)
    assert found == f"does not reach it: {link.scheduler_address}: Connection refused"


def test_a_script_that_wants_a_cluster_of_its_own(machine: Path, address: str) -> None:
    """What `connect` says of it is what Dask does."""
    perennial(machine, "connect")
    code = (
        "from distributed import Client, LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        Client(n_workers=2)\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
        "    own = LocalCluster(n_workers=1, processes=False, dashboard_address=None)\n"
        "    with own, Client(own) as client:\n"
        "        print(client.scheduler.address.partition(':')[0])\n"
    )
    assert python(code, machine).splitlines() == [
        "Unexpected keyword arguments: ['n_workers']",
        "inproc",
    ]
    perennial(machine, "disconnect")


def test_env_in_a_real_shell(machine: Path, address: str) -> None:
    folder = Path(sys.executable).parent
    script = f'eval "$({folder}/perennial env -c lab)"; exec {sys.executable} -c "$ASK"'
    ended = subprocess.run(
        ["/bin/sh", "-eu", "-c", script],
        env=dask_processes.environment(machine, {"ASK": ASK}),
        cwd=machine,
        capture_output=True,
        text=True,
        timeout=dask_processes.PATIENCE,
        check=True,
    )
    assert ended.stdout == f"{address} 3\n"


def test_a_colleague_connects_by_a_bundle(machine: Path, address: str, tmp_path: Path) -> None:
    # A name without a dot, and no slash: only its being a file tells it from a cluster.
    bundle = tmp_path / "bundle"
    code, out, err = perennial(machine, "connect", "--export", str(bundle))
    assert (code, out) == (
        0,
        f"{bundle}: this file gives access to lab; transfer it securely\n",
    )
    assert "warning: the scheduler of lab listens on 127.0.0.1: this works on" in err
    code, _, err = perennial(machine, "connect", "lab", "--export", str(bundle))
    assert (code, err) == (
        1,
        f"{bundle} exists already; choose another name or add --replace\n",
    )
    assert perennial(machine, "connect", "--export", str(bundle), "--replace")[0] == 0

    code, out, err = perennial(tmp_path, "connect", "bundle")
    says = f"Client() in a new Python process reaches lab at {address}\n{OWN}\n"
    assert (code, out) == (0, says)
    assert "127.0.0.1: this works on the cluster's own machine alone" in err
    bundle.unlink()
    assert python(ASK, tmp_path) == f"{address} 3"
    perennial(tmp_path, "disconnect", "-c", "lab")
    assert perennial(tmp_path, "connect")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["connect"], "no clusters found; run `perennial up -f FILE`, or `perennial connect"),
        (
            ["env", "-c", "lab"],
            "lab: no such cluster; run `perennial up -f FILE`",
        ),
        (["connect", "lab.bundle"], "lab.bundle: No such file or directory; name a cluster or"),
        (["connect", "./lab"], "lab: No such file or directory; name a cluster or a bundle"),
        (["connect", "--export", "x"], "no clusters found"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], error: str) -> None:
    code, out, err = perennial(tmp_path, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(error)
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_stays_light(machine: Path, address: str) -> None:
    """Connecting needs YAML and the certificate's dates, not Dask."""
    code = (
        "import sys\n"
        "from perennial import connect\n"
        "connect.write(connect.find())\n"
        "connect.remove()\n"
        "print({'dask', 'distributed', 'pydantic', 'psutil'} & set(sys.modules))\n"
    )
    assert python(code, machine) == "set()"
