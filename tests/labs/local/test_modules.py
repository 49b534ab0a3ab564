"""A PYTHONPATH of the cluster file: modules of a person's own, wherever their functions arrive."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.homes import Home
from tests.jupyterlab import TOKEN, Lab

pytestmark = pytest.mark.lab

#: Pickled by its name alone, so whoever unpickles it must import the module.
MODULE = """\
import os

class Sample:
    def __init__(self, value):
        self.value = value

def double(sample):
    return sample.value * 2

def where(dask_scheduler=None):
    return os.path.dirname(__file__)
"""
#: In a folder where tasks write: found there, it would be run for its name (see -P).
TRAP = "raise SystemExit('run from the working folder')\n"


@pytest.fixture
def modules(jupyter_home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules whose name must be quoted, for the cluster and this process."""
    folder = jupyter_home.root / "it's 100% mine"
    folder.mkdir()
    (folder / "labsamples.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "labsamples", raising=False)
    return folder


def test_modules_are_found_by_scheduler_workers_and_kernels(
    jupyter_home: Home, modules: Path
) -> None:
    home = jupyter_home
    home.spec["env"] = {"PYTHONPATH": str(modules)}
    home.spec["workers"] = {
        "cpu": {"count": 1, "memory": "1 GiB"},
        # A group's variable stands over the cluster's.
        "other": {"count": 1, "memory": "1 GiB", "env": {"PYTHONPATH": f"/nothing:{modules}"}},
    }
    home.write()
    token = home.state / "secrets" / "jupyter-token"
    token.parent.mkdir(parents=True, mode=0o700)
    for folder in (home.state.parent, home.state, token.parent):
        folder.chmod(0o700)
    token.write_text(TOKEN)
    home.up()
    (home.state / "work").joinpath("labsamples.py").write_text(TRAP)

    import labsamples  # type: ignore[import-not-found]

    with home.client() as client:
        assert client.run_on_scheduler(labsamples.where) == str(modules)
        assert set(client.run(labsamples.where).values()) == {str(modules)}
        assert set(client.run(labsamples.where, nanny=True).values()) == {str(modules)}
        # A graph is unpickled by the scheduler, its tasks and their arguments by the workers.
        for name in ("cpu-0", "other-0"):
            task = client.submit(labsamples.double, labsamples.Sample(21), workers=[name])
            assert task.result(60) == 42
        kept = client.scatter(labsamples.Sample(4))
        assert client.submit(labsamples.double, kept).result(60) == 8

    nothing: Any = None
    port = home.spec["jupyter"]["port"]
    lab = Lab(nothing, port, 0, nothing, token)
    code = (
        "import labsamples\n"
        "from distributed import Client\n"
        "with Client() as client:\n"
        "    print(client.submit(labsamples.double, labsamples.Sample(3)).result(60))\n"
    )
    assert lab.run(lab.kernel(), code).strip() == "6"
    home.run("down", "--force")
