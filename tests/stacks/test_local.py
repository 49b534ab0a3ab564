"""`platform: local` through Pulumi's real engine: the same cluster as `perennial up` makes."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.spec import loads, plain
from perennial.stacks.provider.kinds import HalfMadeError, State
from perennial.stacks.provider.local import LocalServices
from perennial.state import Stack
from tests.homes import Home, run
from tests.labs.pulumi import settings

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(1800)]

PROGRAM = """
import json, sys
from pulumi import automation
from perennial.stacks.program import main

folder, config, command = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
stack = automation.create_or_select_stack(
    "dev", "field", main, opts=automation.LocalWorkspaceOptions(work_dir=folder)
)
stack.set_config("perennial:cluster", automation.ConfigValue(json.dumps(config)))
warned = []
def hear(event):
    said = event.diagnostic_event
    if said and said.severity == "warning" and said.urn.endswith("-services"):
        warned.append(said.message.strip())
options = {} if command == "destroy" else {"refresh": True}
result = getattr(stack, command)(on_event=hear, **options)
outputs = stack.outputs()
print(json.dumps({
    "warned": warned,
    "changes": None if command == "preview" else result.summary.resource_changes,
    "outputs": {name: [value.value, value.secret] for name, value in outputs.items()},
}))
"""


class Project:
    """A Pulumi project in a home."""

    def __init__(self, home: Home, engine: Path) -> None:
        self.home = home
        self.folder = home.root / "pulumi"
        self.folder.mkdir()
        self.environment = {
            **home.environment,
            "PATH": f"{Path(sys.executable).parent}:{engine}:{home.environment['PATH']}",
            **settings(self.folder),
            "PULUMI_RUNTIME_VIRTUALENV": sys.prefix,
            "PULUMI_HOME": str(self.folder / "home"),
        }

    def run(self, command: str) -> dict[str, dict[str, object]]:
        """Run a command of Pulumi's."""
        words = (PROGRAM, str(self.folder), json.dumps(self.home.spec), command)
        command_line = (sys.executable, "-c", *words)
        said = run(
            *command_line,
            environment=self.environment,
            folder=self.folder,  # as the ordinary command line would
            timeout=600,
            apart=True,
        )
        return dict(json.loads(said.splitlines()[-1]))


def test_what_was_begun_is_kept_and_finished(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider without its engine: the scheduler's port is taken when it is to start."""
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, home.environment[name])
    paths, kind = cluster_state("lab"), LocalServices()
    inputs = {"cluster": plain(loads(json.dumps(home.spec))), "stack": "dev"}
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", home.spec["scheduler"]["port"]))
        taken.listen()
        with pytest.raises(HalfMadeError) as caught:
            kind.create(inputs, print)
    half = State(inputs, caught.value.made.outputs)
    assert caught.value.made.id == "lab"
    stack = Stack.load(paths)
    assert stack is not None
    assert (stack.name, stack.folder) == ("dev", str(Path.cwd()))
    assert "drift" in kind.pending(half, inputs)

    whole = State(inputs, kind.update(half, inputs, print))
    assert kind.pending(whole, inputs) == []
    assert home.workers() == {"cpu-0"}
    kind.delete(whole, print)
    assert not paths.spec.exists()
    assert Stack.load(paths) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="others may run any interpreter of theirs")
def test_what_never_began_is_nobodys(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, home.environment[name])
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    tmp_path.chmod(0o777)
    spec = {**home.spec, "environment": {"python": str(python)}}
    inputs = {"cluster": plain(loads(json.dumps(spec))), "stack": "dev"}
    with pytest.raises(PerennialError, match="which root would run"):
        LocalServices().create(inputs, print)
    assert Stack.load(cluster_state("lab")) is None
    assert not (cluster_state("lab").root / "owner").exists()


def test_life(home: Home) -> None:
    from tests.labs.hosts.base import UnavailableError
    from tests.labs.pulumi import engine

    try:
        project = Project(home, engine())
    except UnavailableError as error:
        pytest.skip(str(error))
    home.spec["workers"]["cpu"]["count"] = 2
    made = project.run("up")
    assert made["changes"] == {"create": 3}
    address = f"tls://127.0.0.1:{home.spec['scheduler']['port']}"
    assert made["outputs"]["scheduler_address"] == [address, False]
    assert made["outputs"]["connection"][1] is True
    with home.client() as client:
        assert client.submit(sum, [1, 2]).result(60) == 3
    pids = {name: home.pid(name) for name in ("scheduler", "cpu-0", "cpu-1")}
    assert project.run("up")["changes"] == {"same": 3}

    # It is Pulumi's from now on, which nobody had to say.
    destroys = f"`pulumi -C {project.folder} destroy --stack dev`"
    assert destroys in home.run("down", "--force", code=1)
    home.run("scale", "cpu=1")
    assert project.run("up")["changes"] == {"same": 3}, "a stack sets the first size only"
    assert home.workers() == {"cpu-0"}

    home.spec["workers"]["cpu"]["threads"] = 2
    assert project.run("preview")["warned"] == []
    assert project.run("up")["changes"] == {"same": 2, "update": 1}
    assert home.pid("scheduler") == pids["scheduler"]
    assert home.pid("cpu-0") != pids["cpu-0"]

    # A preview says where work is lost, as a plan does.
    home.spec["dask"] = {"distributed.scheduler.work-stealing": False}
    assert project.run("preview")["warned"] == [
        "lab: scheduler restarts: running work and results are lost"
    ]
    assert home.pid("scheduler") == pids["scheduler"]

    assert project.run("destroy")["changes"] == {"delete": 3}
    assert not home.state.joinpath("cluster.yaml").exists()
    assert not home.state.joinpath("stack.json").exists()
