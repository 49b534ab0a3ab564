"""A connection in the user's Dask configuration: what it says, what it never does."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial import authority, certificates, connect, paths
from perennial.cli import use
from perennial.connect import Connection, Tls, configuration
from perennial.errors import PerennialError
from tests import dask_processes
from tests.dask_processes import python

#: With what a bad path can hold, to prove the quoting.
FOLDER = "it's a $HOME; folder"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(scope="module")
def tls(machine: Path) -> Path:
    folder = machine / FOLDER
    authority.ensure(folder, "lab", authority.local_names())
    return folder


@pytest.fixture(scope="module")
def address(machine: Path, tls: Path) -> Iterator[str]:
    with dask_processes.cluster(machine, tls) as address:
        yield address


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Home of a user without any Dask configuration."""
    for name in [name for name in os.environ if name.startswith(("DASK_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def lab(tls: Path, address: str = "tls://127.0.0.1:1", **more: Any) -> Connection:
    links = {
        "dashboard_link": "http://127.0.0.1:9999/proxy/1234/status",
        "jupyter_url": "http://127.0.0.1:9999/lab",
    }
    return Connection("lab", address, **{**links, "tls": Tls.in_folder(tls), **more})


def other_file(home: Path, text: str, name: str = "mine.yaml") -> Path:
    file = home / ".config/dask" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


#: Prints the scheduler's address, the names of its workers and the dashboard's link.
WHICH = (
    "from distributed import Client\n"
    "with Client() as client:\n"
    "    assert client.submit(sum, [1, 2]).result(30) == 3\n"
    "    workers = client.sync(client.scheduler.identity, n_workers=-1)['workers']\n"
    "    names = [str(w['name']) for w in workers.values()]\n"
    "    print(client.scheduler.address, 'cpu-0' in names)\n"
    "    print(client.dashboard_link)\n"
)


@pytest.mark.smoke
@pytest.mark.lab
class TestProcesses:
    """What new Python processes of the user do, with a real TLS cluster."""

    def test_a_plain_client_reaches_the_cluster_while_connected(
        self, home: Path, tls: Path, address: str
    ) -> None:
        assert connect.write(lab(tls, address)) == ()
        found, link = python(WHICH, home).splitlines()
        assert found == f"{address} True"
        assert link.startswith("http://127.0.0.1:9999/proxy/")
        assert "{" not in link

        assert connect.remove() == "lab"
        found, link = python(WHICH, home).splitlines()
        assert found.startswith("tcp://127.0.0.1:")
        assert found.endswith(" False")
        assert not list((home / ".config/dask").iterdir())

    def test_the_users_own_clusters_work_while_connected(
        self, home: Path, tls: Path, address: str
    ) -> None:
        connect.write(lab(tls, address))
        own = (
            "from distributed import Client, LocalCluster\n"
            "for how in ({}, {'processes': False}, {'security': True}):\n"
            "    address = '127.0.0.1:0'\n"
            "    with LocalCluster(n_workers=1, dashboard_address=address, **how) as cluster:\n"
            "        with Client(cluster) as client:\n"
            "            print(client.submit(sum, [1, 2]).result(30), end=' ')\n"
            "        port = cluster.scheduler_info['services']['dashboard']\n"
            "        print(cluster.dashboard_link.endswith(f':9999/proxy/{port}/status'))\n"
        )
        assert python(own, home).splitlines() == ["3 True"] * 3

    def test_a_local_clusters_arguments_are_refused_as_the_guide_and_connect_say(
        self, home: Path, tls: Path, address: str
    ) -> None:
        """Dask takes no arguments of a LocalCluster beside an address; what to write is said."""
        guide = Path(__file__).parents[1] / "docs" / "guide" / "connecting.md"
        told = " ".join(guide.read_text().split())
        asked = ("n_workers=2", "processes=False", "threads_per_worker=1")
        ask = "from distributed import Client, LocalCluster\n" + "".join(
            f"try: print(Client({how}))\nexcept ValueError as error: print(error)\n"
            for how in asked
        )
        connect.write(lab(tls, address))
        refused = "Unexpected keyword arguments"
        assert python(ask, home).splitlines() == [
            f"{refused}: {[how.partition('=')[0]]}" for how in asked
        ]
        for how in asked[:2]:
            assert f"`Client({how})`" in told
        assert f"`{refused}`" in told
        # Both that `connect` prints, with the first argument, as a script has to write it.
        right, wrong = re.findall(r"Client\(.*?\)+(?=,|$)", use.OWN)
        assert wrong == f"Client({asked[0]})"
        assert f"`{right}`" in told
        small = "n_workers=1, processes=False, dashboard_address='127.0.0.1:0'"
        own = right.replace(asked[0], small)
        start = f"from distributed import Client, LocalCluster\nprint({own}.scheduler.address[:9])"
        assert python(start, home) == "inproc://"
        connect.remove()
        assert python(start, home) == "inproc://"
        start = f"from distributed import Client\nprint(Client({small}).scheduler.address[:9])"
        assert python(start, home) == "inproc://"

    def test_dask_processes_started_by_hand_work_while_connected(
        self, home: Path, tls: Path, address: str
    ) -> None:
        connect.write(lab(tls, address))
        with ExitStack() as stack:
            plain = stack.enter_context(dask_processes.scheduler(home, None, "--no-dashboard"))
            stack.enter_context(dask_processes.dask(home, "worker", plain, "--no-dashboard"))
            ask = f"print(Client('{plain}', timeout=30).submit(sum, [1, 2]).result(30))"
            assert python(f"from distributed import Client\n{ask}", home) == "3"
        assert plain.startswith("tcp://")

    def test_exports_say_the_same_to_one_shell(self, home: Path, tls: Path, address: str) -> None:
        connection = lab(tls, address)
        # Each variable arrives, in a real shell, as the value that `write` gives.
        keys = {
            name: ".".join(name.removeprefix("DASK_").lower().split("__"))
            for name in connect.variables(connection)
        }
        assert len(keys) == 5
        ask = (
            "import dask, distributed, json\n"
            f"print(json.dumps([dask.config.get(key) for key in {list(keys.values())}]))\n" + WHICH
        )
        guarded = "if __name__ == '__main__':\n" + "".join(f"    {x}\n" for x in ask.splitlines())
        script = f"{connect.exports(connection)}{sys.executable} -c {shlex.quote(guarded)}\n"
        ended = subprocess.run(
            ["/bin/sh", "-eu"],
            input=script,
            env=dask_processes.environment(home),
            cwd=home,
            capture_output=True,
            text=True,
            check=True,
        )
        values, found, link = ended.stdout.splitlines()
        assert json.loads(values) == list(connect.variables(connection).values())
        assert found == f"{address} True"
        assert link.startswith("http://127.0.0.1:9999/proxy/")
        assert not (home / ".config").exists()

    def test_a_bundle_connects_another_user(self, home: Path, tls: Path, address: str) -> None:
        bundle = home / "lab.bundle"
        connect.export_bundle(lab(tls, address), bundle)
        there = home / "there"
        there.mkdir()
        connected = python(
            "from pathlib import Path\n"
            "from perennial import connect\n"
            f"print(connect.write(connect.read_bundle(Path({str(bundle)!r}))))\n",
            there,
        )
        assert connected == "()"
        bundle.unlink()
        assert python(WHICH, there).startswith(f"{address} True")


def test_what_is_written(home: Path, tls: Path) -> None:
    connect.write(lab(tls))
    file = home / ".config/dask/perennial.yaml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert yaml.safe_load(file.read_text()) == {
        "scheduler-address": "tls://127.0.0.1:1",
        "distributed": {
            "comm": {
                "tls": {
                    "ca-file": f"{tls}/ca.pem",
                    "client": {"cert": f"{tls}/client.pem", "key": f"{tls}/client-key.pem"},
                }
            },
            "dashboard": {"link": "http://127.0.0.1:9999/proxy/{port}/status"},
        },
        "perennial": {
            "cluster": "lab",
            "dashboard-link": "http://127.0.0.1:9999/proxy/1234/status",
            "jupyter-url": "http://127.0.0.1:9999/lab",
        },
    }
    assert connect.current() == lab(tls)


def test_a_connection_without_tls_or_links(home: Path) -> None:
    connection = Connection("open", "tcp://127.0.0.1:1")
    connect.write(connection)
    file = home / ".config/dask/perennial.yaml"
    assert yaml.safe_load(file.read_text()) == {
        "scheduler-address": "tcp://127.0.0.1:1",
        "perennial": {"cluster": "open"},
    }
    assert connect.current() == connection
    assert connect.exports(connection) == "export DASK_SCHEDULER_ADDRESS=tcp://127.0.0.1:1\n"


@pytest.mark.parametrize(
    ("link", "template"),
    [
        ("http://127.0.0.1:8888/proxy/8787/status", "http://127.0.0.1:8888/proxy/{port}/status"),
        ("http://127.0.0.1:8787/status", "http://127.0.0.1:{port}/status"),
        ("http://127.0.0.1:8888/dashboard/status", "http://127.0.0.1:8888/dashboard/status"),
        ("https://hub/user/{me}/x", "https://hub/user/{{me}}/x"),
    ],
)
def test_a_link_becomes_dasks_template(link: str, template: str) -> None:
    assert configuration.link_template(link) == template


def test_connecting_twice_changes_nothing(home: Path, tls: Path) -> None:
    connect.write(lab(tls))
    before = (home / ".config/dask/perennial.yaml").read_bytes()
    assert connect.write(lab(tls)) == ()
    assert (home / ".config/dask/perennial.yaml").read_bytes() == before


def test_replacing_another_clusters_connection_is_said(home: Path, tls: Path) -> None:
    connect.write(Connection("other", "tcp://127.0.0.1:2"))
    assert connect.write(lab(tls)) == ("this replaces the connection to other",)


def test_a_missing_certificate_is_said_before_anything_is_written(home: Path) -> None:
    with pytest.raises(PerennialError, match=r"none/ca\.pem: no such file"):
        connect.write(lab(home / "none"))
    assert connect.current() is None


def test_disconnecting_removes_only_what_is_ours(home: Path, tls: Path) -> None:
    mine = other_file(home, "array: {chunk-size: 1MiB}")
    assert connect.remove() is None
    connect.write(lab(tls))
    with pytest.raises(PerennialError, match="x is not connected: found a connection to lab"):
        connect.remove("x")
    assert connect.remove("lab") == "lab"
    assert list((home / ".config/dask").iterdir()) == [mine]


@pytest.mark.parametrize("name", ["a.yaml", "z.yml", "z.json"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\n\nscheduler-address: tcp://x:1\n", ":3: scheduler-address: found tcp://x:1"),
        ("{scheduler_address: 'tcp://x:1'}", ":1: scheduler-address: found tcp://x:1"),
        (
            "distributed:\n  comm:\n    tls:\n      ca_file: /x\n",
            ":4: distributed.comm.tls.ca-file",
        ),
    ],
)
def test_a_contradiction_is_refused(
    home: Path, tls: Path, name: str, text: str, found: str
) -> None:
    file = other_file(home, text, name)
    with pytest.raises(PerennialError) as error:
        connect.write(lab(tls))
    assert str(error.value).startswith(f"{file}{found}")
    assert "\n" not in str(error.value)
    assert connect.current() is None


def test_a_null_matters_only_where_it_wins(home: Path, tls: Path) -> None:
    null = "scheduler-address: null\ndistributed: {comm: {tls: {ca-file: null}}}"
    other_file(home, null, "distributed.yaml")
    connect.write(lab(tls))
    other_file(home, null, "z.yaml")
    with pytest.raises(PerennialError, match=r"z\.yaml:1: scheduler-address: found null"):
        connect.write(lab(tls))


def test_the_same_value_elsewhere_is_no_contradiction(home: Path, tls: Path) -> None:
    other_file(home, "scheduler-address: tls://127.0.0.1:1\narray: {}\n")
    other_file(home, "", "empty.yaml")
    other_file(home, "scheduler-address: tcp://x:1", "notes.txt")
    connect.write(lab(tls))


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00"])
def test_a_file_with_which_dask_cannot_start_is_said(home: Path, tls: Path, content: bytes) -> None:
    other_file(home, "").write_bytes(content)
    with pytest.raises(PerennialError, match=r"mine\.yaml.* so Dask cannot start; correct it or"):
        connect.write(lab(tls))


def test_a_file_of_the_user_with_our_name_is_left_alone(home: Path, tls: Path) -> None:
    file = other_file(home, "array: {}", "perennial.yaml")
    with pytest.raises(PerennialError, match="`perennial connect` did not write; rename it"):
        connect.write(lab(tls))
    assert connect.current() is connect.remove() is None
    assert file.read_text() == "array: {}"


def test_dask_config_folder_is_used(home: Path, tls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect.write(lab(tls))
    monkeypatch.setenv("DASK_CONFIG", str(home / "mine"))
    assert connect.current() == lab(tls)
    connect.write(lab(tls, "tls://127.0.0.1:2"))
    assert (home / "mine/perennial.yaml").is_file()
    assert connect.current() == lab(tls, "tls://127.0.0.1:2")
    # Both are read by Dask, so both are removed.
    assert connect.remove() == "lab"
    assert connect.current() is None


def test_dask_config_file_that_wins_is_refused(
    home: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "own.conf"
    file.write_text("scheduler-address: tcp://x:1")
    monkeypatch.setenv("DASK_CONFIG", str(file))
    with pytest.raises(PerennialError, match=r"own\.conf:1: scheduler-address: found tcp://x:1"):
        connect.write(lab(tls))


def test_variables_that_win_are_said(
    home: Path, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://x:1")
    (notice,) = connect.write(lab(tls))
    assert notice.startswith("DASK_SCHEDULER_ADDRESS=tcp://x:1 is set in this shell and wins")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tls://127.0.0.1:1")
    assert connect.write(lab(tls)) == ()


@pytest.mark.parametrize(("days", "said"), [(31, None), (29, "expires"), (-1, "expired")])
def test_a_certificate_that_ends_soon_is_said(home: Path, days: int, said: str | None) -> None:
    folder = home / "tls"
    authority.ensure(folder, "lab", ())
    made = datetime.now(UTC) + timedelta(days=days) - certificates.LIFE
    pair = certificates.Pair(*((folder / f"ca{x}.pem").read_bytes() for x in ("", "-key")))
    key = (folder / "client-key.pem").read_bytes()
    cert = certificates.make_certificate(pair, "client", (), made, key).cert
    (folder / "client.pem").write_bytes(cert)
    notices = connect.write(lab(folder))
    if said is None:
        assert notices == ()
    else:
        assert notices[0].startswith(f"the client's certificate for lab {said} on 20")


def test_a_connection_is_kept_and_found(home: Path, tls: Path) -> None:
    with pytest.raises(PerennialError, match="no clusters found; run `perennial up -f"):
        connect.find()
    for name in ("a", "lab"):
        cluster = paths.cluster_state(name)
        cluster.root.mkdir(parents=True)
        cluster.spec.touch()
    with pytest.raises(PerennialError, match=r"several clusters found; name one of a, lab"):
        connect.choose()
    with pytest.raises(PerennialError, match="x: no such cluster; allowed: a, lab"):
        connect.choose("x")
    with pytest.raises(PerennialError, match=r"\.json: no connection stored here; `perennial"):
        connect.find("lab")
    connect.save(paths.cluster_state("lab"), lab(tls))
    assert connect.find("lab") == lab(tls)
    paths.cluster_state("a").spec.unlink()
    assert (connect.choose(), connect.find()) == ("lab", lab(tls))


@pytest.mark.parametrize(
    "change",
    [
        {"cluster": 5},
        {"scheduler_address": None},
        {"scheduler_address": "http://x:1/"},
        {"scheduler_address": "tls://[::1:1"},
        {"dashboard_link": []},
        {"tls": None},
        {"tls": "x"},
        {"tls": {"ca": "x", "cert": "y"}},
    ],
)
def test_a_damaged_connection_is_said(home: Path, tls: Path, change: dict[str, Any]) -> None:
    file = paths.cluster_state("lab").connection
    file.parent.mkdir(parents=True)
    for value in ([], {**lab(tls).to_json(), **change}):
        file.write_text(json.dumps(value))
        with pytest.raises(PerennialError, match=r"connection\.json is damaged: found .*; `perenn"):
            connect.load(paths.cluster_state("lab"))
