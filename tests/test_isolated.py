"""What a client puts into a scheduler's answers never runs in the operator's command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from perennial import authority, connect, isolated, paths
from perennial.connect import Connection, Tls
from perennial.doctor.checks import _ask_workers
from perennial.scheduler_connection import security
from tests.scaler.feeder import scheduler

SECRET = "planted-passphrase"
SPEC = "name: lab\nplatform: local\nworkers: {cpu: {scale: {min: 0, max: 8}}}\n"


#: Runs where an answer is unpickled: writes down the process and what environments it can see.
CODE = """
import json, os
def read(path):
    try: return open(path, 'rb').read().decode(errors='replace')
    except OSError as error: return type(error).__name__
parents = read(f'/proc/{os.getppid()}/environ')
seen = {'pid': os.getpid(), 'own': dict(os.environ), 'parents': parents}
open(FILE, 'a').write(json.dumps(seen) + chr(10))
"""


def plant(address: str, tls: Tls, file: Path) -> None:
    """Replace what the scheduler answers, as any client may."""

    # All of it by value: the scheduler cannot import the tests.
    def replace(code: str, dask_scheduler: Any = None) -> None:
        from distributed.protocol.serialize import ToPickle

        class Payload:
            def __reduce__(self) -> tuple[Any, tuple[str, dict[str, str]]]:
                return exec, (code, {})

        async def hostile(*_: object, **__: object) -> object:
            return ToPickle(Payload())

        for name in ("perennial_report", "perennial_wish", "identity"):
            dask_scheduler.handlers[name] = hostile

    code = CODE.replace("FILE", repr(str(file)))
    with Client(address, security=security(tls), set_as_default=False) as client:
        client.run_on_scheduler(replace, code=code)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("operator")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("XDG_STATE_HOME", raising=False)
        cluster = paths.cluster_state("lab")
        authority.ensure(cluster.tls, "lab", ())
        cluster.spec.write_text(SPEC)
        with scheduler(home, cluster.tls) as address:
            link = Connection("lab", address, tls=Tls.in_folder(cluster.tls))
            connect.save(cluster, link)
            assert link.tls is not None
            plant(address, link.tls, home / "ran")
            yield home


@pytest.mark.parametrize(
    "words",
    [["explain"], ["history"], ["pause"], ["resume"], ["scale", "cpu=3"], ["doctor"]],
    ids=" ".join,
)
def test_an_answer_that_runs_code_runs_apart(home: Path, words: list[str]) -> None:
    ran = home / "ran"
    ran.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "perennial", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"HOME": str(home), "PULUMI_CONFIG_PASSPHRASE": SECRET, "SSH_AUTH_SOCK": SECRET},
    )
    said, error = process.communicate(timeout=200)
    assert "Traceback" not in error, error
    seen = [json.loads(line) for line in ran.read_text().splitlines()] if ran.exists() else []
    if words != ["doctor"]:
        assert process.returncode == 1, said
        assert error.count("\n") == 1, error
        assert seen, "the payload has not run at all: this test shows nothing"
    for each in seen:
        assert each["pid"] != process.pid
        assert SECRET not in json.dumps(each["own"])
        if os.geteuid() != 0:  # root reads whatever it likes
            assert SECRET not in each["parents"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", "ended without an answer"),
        (b"{not json\n", "no JSON"),
        (b"[1]\n", "another form"),
        (b'{"answer": 1, "more": 2}\n', "another form"),
        (b'{"other": 1}\n', "another form"),
        (b'{"failed": "a\\nb"}\n', "a b"),
    ],
)
def test_what_the_child_says_is_not_believed(line: bytes, error: str) -> None:
    with pytest.raises(isolated.ChildError, match=error):
        isolated._read(line)


def test_a_refusal_is_the_schedulers_own() -> None:
    with pytest.raises(ValueError, match="no such group"):
        isolated._read(b'{"refused": "no such group"}\n')
    assert isolated._read(b'{"answer": {"a": [1, null]}}\n') == {"a": [1, None]}


def test_the_child_gets_little_of_an_environment() -> None:
    given = {
        **dict.fromkeys(("PATH", "HOME", "LC_ALL"), "x"),
        **dict.fromkeys(("PULUMI_ACCESS_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK"), "y"),
        **dict.fromkeys(("PYTHONPATH", "LD_PRELOAD", "DASK_CONFIG", "KUBECONFIG"), "z"),
    }
    assert isolated.environment(given) == {"PATH": "x", "HOME": "x", "LC_ALL": "x"}


def test_a_process_that_asks_is_closed_to_debuggers() -> None:
    import ctypes

    def dumpable() -> int:
        return int(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))

    before = dumpable()
    with isolated.undebuggable():
        assert dumpable() == 0
    assert dumpable() == before


def test_nobody_there() -> None:
    async def asked() -> None:
        async with isolated.scheduler("tcp://127.0.0.1:9", None, 2.0) as one:
            await one.perennial_report()

    with pytest.raises((isolated.ChildError, OSError)):
        asyncio.run(asked())


def test_packages_of_a_cluster(tmp_path: Path) -> None:
    from tests import dask_processes

    with dask_processes.cluster(tmp_path, None) as address:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=120)
        found = _ask_workers(Connection("lab", address))
    assert list(found) == ["cpu-0"]
    assert "distributed" in found["cpu-0"]
